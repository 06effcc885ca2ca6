package main

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unsafe"
)

// Exit statuses of a command that could not be run, as shells use them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the number of the signal
)

// initMain is the first process of a container: it runs a command as its child, hands on
// to it every signal that it gets itself, collects whatever processes are orphaned in
// the namespace, and ends as the child ends: with its status, or 128 and the signal that
// killed it. "--" may stand before the command.
//
// Without a command it only collects, and waits for SIGTERM or SIGINT: that holds open
// the process namespace that the containers of a task share.
func initMain(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	// Before the fork: a signal that comes while the child starts waits here for it.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)

	if len(args) == 0 {
		return hold(signals)
	}
	child, err := start(args)
	if err != nil {
		say(args[0] + ": " + err.Error())
		if err == syscall.ENOENT {
			return exitNotFound
		}
		return exitNotExecutable
	}
	for {
		// Collect first: the child may have ended before its SIGCHLD could be told from another's.
		if status, ended := reap(child); ended {
			return status
		}
		if sig, ok := (<-signals).(syscall.Signal); ok && forwarded(sig) {
			_ = syscall.Kill(child, sig) // it is not reaped yet, so the number is still its own
		}
	}
}

// hold collects orphans until it is told to end.
func hold(signals <-chan os.Signal) int {
	for {
		reap(0)
		switch <-signals {
		case syscall.SIGTERM, syscall.SIGINT:
			return 0
		}
	}
}

// forwarded tells whether a signal is meant for the command: all are, but those that the
// kernel or our own runtime makes for us.
func forwarded(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE, syscall.SIGTTIN, syscall.SIGTTOU:
		return false
	}
	return true
}

// reap collects every process that has ended, and says how the child has, once it has.
func reap(child int) (status int, ended bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil || pid <= 0: // no children, or none that has ended
			return status, ended
		case pid == child && ws.Signaled():
			status, ended = exitSignal+int(ws.Signal()), true
		case pid == child && ws.Exited():
			status, ended = ws.ExitStatus(), true
		}
	}
}

// start runs the command in a process group of its own, which gets the terminal, if
// there is one: so a ^C there reaches the command once, not twice.
func start(args []string) (pid int, err error) {
	env := syscall.Environ()
	attr := &syscall.ProcAttr{
		Env:   env,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	if isTerminal(0) {
		attr.Sys.Foreground, attr.Sys.Ctty = true, 0
	}
	err = syscall.ENOENT
	for _, path := range candidates(args[0]) {
		pid, e := syscall.ForkExec(path, args, attr)
		if e == nil {
			return pid, nil
		}
		// As execvp does: a file that may not be executed does not end the search, but is
		// what is told in the end.
		if e != syscall.ENOENT && e != syscall.ENOTDIR {
			err = e
		}
	}
	return 0, err
}

// candidates are the paths that a command's name may mean: itself, when it has a slash,
// else one in each directory of PATH.
func candidates(name string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	path, ok := syscall.Getenv("PATH")
	if !ok {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	var found []string
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		found = append(found, dir+"/"+name)
	}
	return found
}

func isTerminal(fd uintptr) bool {
	var group int32
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	return e == 0
}

func say(text string) { _, _ = syscall.Write(2, []byte("ecsd-init: "+text+"\n")) }
