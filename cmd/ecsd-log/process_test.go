package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is the built binary; initProgram the same under its other name.
var program, initProgram string

// TestMain builds the program as it is shipped: what is tested is the process.
func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	switch os.Getenv("ECSD_LOG_TEST") {
	case "child":
		return child()
	}
	dir, err := os.MkdirTemp("", "ecsd-log")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program, initProgram = filepath.Join(dir, "ecsd-log"), filepath.Join(dir, "ecsd-init")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	if err := os.Symlink(program, initProgram); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// container starts a log writer as the shim does, and gives the container's ends of the
// pipes, once the writer says that it is ready.
func container(tb testing.TB, args ...string) (stdout, stderr *os.File, cmd *exec.Cmd) {
	tb.Helper()
	outR, outW, err := os.Pipe()
	must(tb, err)
	errR, errW, err := os.Pipe()
	must(tb, err)
	readyR, readyW, err := os.Pipe()
	must(tb, err)
	cmd = exec.Command(program, args...)
	cmd.Env = []string{"CONTAINER_ID=c", "CONTAINER_NAMESPACE=n"}
	cmd.ExtraFiles = []*os.File{outR, errR, readyW}
	must(tb, cmd.Start())
	tb.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); outW.Close(); errW.Close() })
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	if n, err := readyR.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		tb.Fatalf("ready: %d bytes, error %v", n, err)
	}
	readyR.Close()
	return outW, errW, cmd
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// Under load, with rotation, and with a SIGTERM before the end, as the shim sends one:
// every line is there.
func TestWritesEverything(t *testing.T) {
	const lines = 30_000
	file := filepath.Join(t.TempDir(), "task", "web.log")
	stdout, stderr, cmd := container(t, "max-file", "1000", "file", file, "max-size", "65536", "tty", "false")
	w := bufio.NewWriter(stdout)
	for i := range lines {
		fmt.Fprintf(w, "line %d\n", i)
	}
	fmt.Fprint(stderr, "\x00\xff binary, no newline")
	must(t, w.Flush())
	stdout.Close()
	stderr.Close()
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("the writer ended with %v", err)
	}
	names, _ := filepath.Glob(file + "*")
	if len(names) < 10 {
		t.Errorf("%d files: it hardly rotated", len(names))
	}
	found := map[string]bool{}
	for _, n := range names {
		b, err := os.ReadFile(n)
		must(t, err)
		for l := range strings.Lines(string(b)) {
			found[l[len("2006-01-02T15:04:05.000000000Z "):]] = true
		}
	}
	if !found["stderr F \x00\xff binary, no newline\n"] {
		t.Error("what stood on standard error is missing")
	}
	for i := range lines {
		if !found[fmt.Sprintf("stdout F line %d\n", i)] {
			t.Fatalf("line %d is missing", i)
		}
	}
}

// Wrong arguments keep no container from running: its output is read, and dropped.
func TestWrongArgumentsHoldUpNobody(t *testing.T) {
	stdout, stderr, cmd := container(t, "max-size", "lots")
	for range 100 {
		if _, err := stdout.Write(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	stdout.Close()
	stderr.Close()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("the writer ended with %v, want status 2", err)
	}
}

// BenchmarkMemory prints the memory of one of ten writers, in KB, after 10 MB of output.
// PSS shares what is shared; private is what each one more costs.
func BenchmarkMemory(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		var pids []int
		for i := range 10 {
			stdout, _, cmd := container(b, "file", filepath.Join(dir, fmt.Sprint(i)), "max-size", "1000000", "max-file", "3")
			line := strings.Repeat("x", 99) + "\n"
			for range 1000 {
				fmt.Fprint(stdout, strings.Repeat(line, 100))
			}
			pids = append(pids, cmd.Process.Pid)
		}
		var pss, private int
		for _, pid := range pids {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
			must(b, err)
			pss += field(string(text), "Pss:")
			private += field(string(text), "Private_Dirty:")
		}
		b.ReportMetric(float64(pss)/float64(len(pids)), "KB-PSS")
		b.ReportMetric(float64(private)/float64(len(pids)), "KB-private")
	}
}

func field(text, name string) int {
	for l := range strings.Lines(text) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == name {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return -1
}

// runInit runs a command under the init, as process 1 of a process namespace of its own
// where there is root, and gives its output lines as they come.
func runInit(t *testing.T, args ...string) (lines *bufio.Scanner, cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.Command(initProgram, args...)
	cmd.Env = append(os.Environ(), "ECSD_LOG_TEST=child")
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	}
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return bufio.NewScanner(out), cmd
}

// child is what runs under the init in these tests: this test program again.
func child() int {
	switch os.Args[1] {
	case "exit":
		n, _ := strconv.Atoi(os.Args[2])
		return n
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "signals": // tells which signals come, until SIGTERM
		c := make(chan os.Signal, 10)
		notify(c)
		fmt.Println("ready")
		for s := range c {
			fmt.Println(s)
			if s == syscall.SIGTERM {
				return 3
			}
		}
	case "orphans": // leaves children of its children behind, and waits until they are reaped
		const n = 20
		pids := make([]int, 0, n)
		for range n {
			cmd := exec.Command("/bin/sh", "-c", `sleep 0 & echo $!`)
			out, err := cmd.Output()
			if err != nil {
				fmt.Println(err)
				return 1
			}
			pid, _ := strconv.Atoi(strings.TrimSpace(string(out)))
			pids = append(pids, pid)
		}
		deadline := time.After(10 * time.Second)
		for _, pid := range pids {
			for syscall.Kill(pid, 0) == nil { // a zombie still has its number
				select {
				case <-deadline:
					fmt.Println("not reaped", pid)
					return 1
				case <-time.After(time.Millisecond):
				}
			}
		}
		fmt.Println("all reaped")
	case "group":
		fmt.Println(syscall.Getpgrp() == os.Getpid())
	}
	return 0
}

func exitCode(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	done := make(chan struct{})
	stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill(); close(done) })
	defer stop.Stop()
	_ = cmd.Wait()
	select {
	case <-done:
		t.Fatal("it did not end")
	default:
	}
	return cmd.ProcessState.ExitCode()
}

func TestInitEndsAsItsChild(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600))
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"status":         {[]string{"--", self, "exit", "7"}, 7},
		"success":        {[]string{self, "exit", "0"}, 0},
		"killed":         {[]string{"--", self, "die"}, 128 + 9},
		"by PATH":        {[]string{"--", "sh", "-c", "exit 4"}, 4},
		"not there":      {[]string{"--", "/no/such"}, 127},
		"not in PATH":    {[]string{"--", "no-such-command"}, 127},
		"not executable": {[]string{"--", plain}, 126},
	} {
		t.Run(name, func(t *testing.T) {
			_, cmd := runInit(t, c.args...)
			if got := exitCode(t, cmd); got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
		})
	}
}

func TestInitForwardsSignals(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	lines, cmd := runInit(t, "--", self, "signals")
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the child said %q, want %q (%v)", lines.Text(), want, lines.Err())
		}
	}
	next("ready")
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGWINCH, syscall.SIGINT, syscall.SIGTERM} {
		must(t, cmd.Process.Signal(s))
		next(s.String())
	}
	if got := exitCode(t, cmd); got != 3 {
		t.Errorf("status %d, want 3", got)
	}
}

func TestInitReapsOrphans(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: a process namespace needs root")
	}
	self, err := os.Executable()
	must(t, err)
	lines, cmd := runInit(t, "--", self, "orphans")
	if !lines.Scan() || lines.Text() != "all reaped" {
		t.Errorf("the child said %q", lines.Text())
	}
	if got := exitCode(t, cmd); got != 0 {
		t.Errorf("status %d", got)
	}
}

// A command has a process group of its own, so that a terminal's ^C reaches it once.
func TestInitGivesItsOwnGroup(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	lines, _ := runInit(t, "--", self, "group")
	if !lines.Scan() || lines.Text() != "true" {
		t.Errorf("the child said %q", lines.Text())
	}
}

// Without a command it holds the namespace, and reaps whom nobody else does, until it is
// told to end.
func TestInitHolds(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: a process namespace needs root")
	}
	_, cmd := runInit(t)
	pid := cmd.Process.Pid
	// The shell ends before what it started, which so becomes a child of the init.
	if out, err := exec.Command("nsenter", "-t", strconv.Itoa(pid), "-p", "/bin/sh", "-c", "sleep 0.05 &").CombinedOutput(); err != nil {
		t.Fatalf("nsenter: %v: %s", err, out)
	}
	deadline := time.After(10 * time.Second)
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		must(t, err)
		if len(strings.Fields(string(b))) == 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("not reaped: %s", b)
		case <-time.After(time.Millisecond):
		}
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if got := exitCode(t, cmd); got != 0 {
		t.Errorf("status %d, want 0", got)
	}
}
