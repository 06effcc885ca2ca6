// Package writer is the log writer that containerd starts beside each container: it
// reads what the container prints and keeps it in files.
//
//	container ── stdout ──► fd 3 ┐                       ┌─► web.log      (newest)
//	          ── stderr ──► fd 4 ┴─► lines, stamped ─────┤   web.log.1
//	shim      ◄── ready ─── fd 5                         └── web.log.2    (oldest)
//
// Three rules shape it:
//
//   - The container never waits for a disk. When a write fails, the lines of that write
//     are counted and dropped; the next write that succeeds is led by a line that says
//     how many were lost and why.
//   - A file holds whole records. What a failed write left of one is cut off again, so a
//     reader that knows nothing of this program (fluent-bit, promtail, vector) sees
//     nothing but the CRI log format.
//   - There is one of these processes per container, so its memory counts a hundredfold:
//     buffers are fixed, nothing is allocated per line, and it imports little more than
//     system calls. The garbage collector is never turned off, because it never has
//     anything to do.
//
// A record is
//
//	2026-11-22T11:40:47.123456789Z stdout F text of the line
//
// with P in place of F when the line goes on in the next record of that stream: a line
// longer than [MaxText] is cut into pieces. A last line without a newline is an F.
package writer

import (
	"errors"
	"os/signal"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// File descriptors of containerd's logging protocol for binary:// URIs.
const (
	fdStdout = 3 // read: what the container prints
	fdStderr = 4 // read: and prints as an error
	fdReady  = 5 // closed by us when the container may start
)

// Options is what the query of the binary:// URI says.
type Options struct {
	File    string // absolute path of the newest file; its directory is made when missing
	MaxSize int64  // bytes after which the file is rotated; 0: never
	MaxFile int    // files kept, the newest included; below 1 means 1
	TTY     bool   // the container has a terminal: all output is on stdout, which alone ends the writer
}

// ParseArgs reads options from the arguments that containerd makes of a URI's query: a
// key, its value, the next key, in any order. Unknown keys are passed over, so that an
// older writer works under a newer agent. An error leaves the options that were good.
func ParseArgs(args []string) (Options, error) {
	var (
		o   Options
		bad error
	)
	for i := 0; i+1 < len(args); i += 2 {
		var err error
		switch v := args[i+1]; args[i] {
		case "file":
			o.File = v
		case "max-size":
			o.MaxSize, err = strconv.ParseInt(v, 10, 64)
		case "max-file":
			o.MaxFile, err = strconv.Atoi(v)
		case "tty":
			o.TTY, err = strconv.ParseBool(v)
		}
		if err != nil && bad == nil {
			bad = errors.New("log option " + args[i] + ": " + err.Error())
		}
	}
	if bad == nil && o.File == "" {
		bad = errors.New("log option file: missing: give the path of the log file")
	}
	o.MaxSize = max(o.MaxSize, 0)
	o.MaxFile = max(o.MaxFile, 1)
	return o, bad
}

// Main is the whole program: it serves one container on the descriptors of containerd's
// protocol, and returns the exit status when the container's output has ended.
//
// SIGTERM is ignored: the shim closes its ends of the pipes before it sends one, so the
// end of the output says the same thing, and says it after the last line.
func Main(args []string) int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	o, err := ParseArgs(args)
	if err != nil {
		// Nobody reads our standard error under containerd; by hand, somebody does.
		_, _ = syscall.Write(2, []byte("ecsd-log: "+err.Error()+"\n"))
	}
	Run(o, fdStdout, fdStderr, func() { _ = syscall.Close(fdReady) })
	if err != nil {
		return 2
	}
	return 0
}

// buffers of the one run of this process; they cost memory only where they are touched.
var (
	stdout = stream{name: " stdout "}
	stderr = stream{name: " stderr "}
	sink   file
)

// Run copies both streams into the file until both have ended (with TTY: until out has
// ended), and calls ready once the file is open, or has turned out not to open: even
// then the container runs, and its output is read and dropped. It uses the process's
// only set of buffers: one Run at a time.
func Run(o Options, out, err int, ready func()) {
	stdout.reset(out)
	stderr.reset(err)
	if o.TTY {
		stderr.fd = -1
	}
	sink.reset(o)
	sink.open()
	ready()
	for stdout.fd >= 0 || stderr.fd >= 0 {
		a, b := wait(stdout.fd, stderr.fd)
		now := time.Now().UnixNano()
		if a {
			stdout.read(&sink, now)
		}
		if b {
			stderr.read(&sink, now)
		}
		sink.flush(now)
	}
	now := time.Now().UnixNano()
	sink.report(now)
	sink.close()
}

// pollFd is the kernel's struct pollfd.
type pollFd struct {
	fd      int32
	events  int16
	revents int16
}

const pollIn = 1

// fds lives outside wait because its address is taken: there it would be allocated.
var fds [2]pollFd

// wait blocks until a descriptor can be read or has ended. A negative one is left out.
func wait(a, b int) (readA, readB bool) {
	fds[0] = pollFd{fd: int32(a), events: pollIn}
	fds[1] = pollFd{fd: int32(b), events: pollIn}
	for {
		_, _, e := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)), 0, 0, 0, 0)
		if e == 0 {
			// Also hang-up and error, which are always reported: read then tells.
			return fds[0].revents != 0, fds[1].revents != 0
		}
		if e != syscall.EINTR {
			// Not possible with valid arguments; reading directly is always right, if slower.
			return a >= 0, a < 0
		}
	}
}
