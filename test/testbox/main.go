// Testbox is the only program in the image that ecsd's tests run: small commands that do
// one thing each and end in a way the test can tell apart.
//
//	pause                 wait; exit 0 on SIGTERM or SIGINT
//	ignore                wait; ignore SIGTERM and SIGINT
//	exit N                exit with N at once
//	after DURATION N      exit with N after DURATION; with 143 on SIGTERM
//	http ADDR [TEXT]      serve TEXT and the request's path; on SIGTERM finish what is open, exit 0
//	udp ADDR              answer each datagram with itself
//	lines N [BYTES]       print N numbered lines of at least BYTES bytes, exit 0
//	echo ARGS…            print the arguments
//	env                   print the environment
//	cat FILE, ls DIR, write FILE TEXT, exists FILE
//	id                    print uid:gid:groups
//	alloc MIB             touch that much memory, then pause
//	fork N                start N children that pause, then pause
//	dial ADDR TEXT        send TEXT over TCP, print the answer
//	status FIELD          print that field of /proc/self/status
//	stamp FILE            append CLOCK_BOOTTIME in nanoseconds to FILE, then pause
//
// What a hostile container tries is in misdeeds.go.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if len(os.Args) < 2 {
		os.Args = append(os.Args, "pause")
	}
	name, args := os.Args[1], os.Args[2:]
	command, ok := commands[name]
	if !ok {
		command, ok = misdeeds[name]
	}
	if !ok {
		fmt.Fprintf(os.Stderr, "testbox: no command %q\n", name)
		os.Exit(127)
	}
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(os.Stderr, "testbox: %s %q: %v\n", name, args, r)
			os.Exit(125)
		}
	}()
	os.Exit(command(args))
}

var commands map[string]func(args []string) int

func init() {
	commands = map[string]func([]string) int{
		"pause": func([]string) int { <-terminated(); return 0 },
		"ignore": func([]string) int {
			for range terminated() { // taken, and nothing done about it
			}
			return 0
		},
		"exit":   func(args []string) int { return number(args[0]) },
		"after":  after,
		"http":   serve,
		"udp":    udp,
		"lines":  lines,
		"echo":   func(args []string) int { fmt.Println(strings.Join(args, " ")); return 0 },
		"env":    func([]string) int { fmt.Println(strings.Join(os.Environ(), "\n")); return 0 },
		"cat":    cat,
		"ls":     ls,
		"write":  func(args []string) int { return report(os.WriteFile(args[0], []byte(args[1]), 0o644)) },
		"exists": func(args []string) int { return report(exists(args[0])) },
		"id":     id,
		"alloc":  alloc,
		"fork":   fork,
		"dial":   dial,
		"status": status,
		"stamp":  stamp,
	}
}

func terminated() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	return c
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func report(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func exists(file string) error {
	_, err := os.Stat(file)
	return err
}

func after(args []string) int {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		panic(err)
	}
	select {
	case <-terminated():
		return 143
	case <-time.After(d):
		return number(args[1])
	}
}

func serve(args []string) int {
	text := strings.Join(args[1:], " ")
	server := &http.Server{Addr: args[0], ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/remote" {
			fmt.Fprintln(w, r.RemoteAddr)
			return
		}
		fmt.Fprintln(w, text, r.URL.Path)
	})}
	stopped := make(chan struct{})
	go func() {
		<-terminated()
		_ = server.Shutdown(context.Background())
		close(stopped)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return report(err)
	}
	<-stopped
	return 0
}

func udp(args []string) int {
	conn, err := net.ListenPacket("udp", args[0])
	if err != nil {
		return report(err)
	}
	go func() { <-terminated(); os.Exit(0) }()
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return report(err)
		}
		_, _ = conn.WriteTo(buf[:n], from)
	}
}

func lines(args []string) int {
	size := 0
	if len(args) > 1 {
		size = number(args[1])
	}
	w := bufio.NewWriter(os.Stdout)
	for i := range number(args[0]) {
		line := fmt.Sprintf("line %08d", i)
		fmt.Fprintln(w, line+strings.Repeat("x", max(0, size-len(line))))
	}
	return report(w.Flush())
}

func cat(args []string) int {
	b, err := os.ReadFile(args[0])
	_, _ = os.Stdout.Write(b)
	return report(err)
}

func ls(args []string) int {
	entries, err := os.ReadDir(args[0])
	for _, e := range entries {
		fmt.Println(e.Name())
	}
	return report(err)
}

func id([]string) int {
	groups, err := os.Getgroups()
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = strconv.Itoa(g)
	}
	fmt.Printf("%d:%d:%s\n", os.Getuid(), os.Getgid(), strings.Join(names, ","))
	return report(err)
}

func alloc(args []string) int {
	mem := make([]byte, number(args[0])<<20)
	for i := 0; i < len(mem); i += 4096 {
		mem[i] = 1
	}
	fmt.Println("allocated", args[0])
	<-terminated()
	return int(mem[0]) - 1
}

func fork(args []string) int {
	for range number(args[0]) {
		if err := exec.Command("/proc/self/exe", "pause").Start(); err != nil {
			return report(err)
		}
	}
	fmt.Println("forked", args[0])
	<-terminated()
	return 0
}

func dial(args []string) int {
	conn, err := net.DialTimeout("tcp", args[0], 3*time.Second)
	if err != nil {
		return report(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, args[1]); err != nil {
		return report(err)
	}
	_, err = io.Copy(os.Stdout, conn)
	return report(err)
}

func status(args []string) int {
	b, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, args[0]+":"); ok {
			fmt.Println(strings.TrimSpace(value))
			return 0
		}
	}
	if err == nil {
		err = fmt.Errorf("no field %s", args[0])
	}
	return report(err)
}

func stamp(args []string) int {
	var now struct{ sec, nsec int64 }
	const clockBoottime = 7
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&now)), 0)
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return report(err)
	}
	fmt.Fprintln(f, now.sec*1e9+now.nsec)
	_ = f.Close()
	<-terminated()
	return 0
}
