package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// misdeeds are what a container tries that may want to harm its host. Each says on
// standard output what came of it, and exits 0 unless it says otherwise:
//
//	orphans N      start N processes through others that end at once, so that pid 1 inherits
//	               them, in sessions of their own, ignoring SIGTERM; then end pid 1 with 7
//	read FILE      open it and read a little
//	fill DIR MIB   write that much into a file in DIR
//	open N         open that many files
//	remount DIR    make a read-only mount writable
//	mkfs           mount a new file system
//	kill PID       send SIGKILL to that process
var misdeeds = map[string]func([]string) int{
	"orphans": orphans,
	"daemon":  func([]string) int { return report(detached("ignore").Start()) },
	"read":    func(args []string) int { return came(readSome(args[0])) },
	"fill":    fill,
	"open":    open,
	"remount": func(args []string) int {
		return came(syscall.Mount("", args[0], "", syscall.MS_REMOUNT|syscall.MS_BIND, ""))
	},
	"mkfs": func([]string) int { return came(syscall.Mount("none", "/tmp", "tmpfs", 0, "")) },
	"kill": func(args []string) int { return came(syscall.Kill(number(args[0]), syscall.SIGKILL)) },
}

// came tells how an attempt ended.
func came(err error) int {
	if err == nil {
		fmt.Println("done")
	} else {
		fmt.Println("failed:", err)
	}
	return 0
}

// detached is this program again, in a session of its own.
func detached(command string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func orphans(args []string) int {
	for range number(args[0]) {
		if err := detached("daemon").Run(); err != nil {
			return report(err)
		}
	}
	fmt.Println("orphaned", args[0])
	return 7
}

func readSome(file string) error {
	fd, err := syscall.Open(file, syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	_, err = syscall.Read(fd, make([]byte, 1))
	return err
}

func fill(args []string) int {
	f, err := os.Create(filepath.Join(args[0], "fill"))
	if err != nil {
		return came(err)
	}
	block, written := make([]byte, 1<<20), 0
	for range number(args[1]) {
		n, err := f.Write(block)
		written += n
		if err != nil {
			fmt.Printf("wrote %d KiB, then: %v\n", written>>10, err)
			return 0
		}
	}
	fmt.Printf("wrote %d KiB\n", written>>10)
	return 0
}

func open(args []string) int {
	for i := range number(args[0]) {
		if _, err := syscall.Open("/", syscall.O_RDONLY, 0); err != nil {
			fmt.Printf("opened %d, then: %v\n", i, err)
			return 0
		}
	}
	fmt.Println("opened", args[0])
	return 0
}
