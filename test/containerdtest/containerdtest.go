// Package containerdtest starts containerd daemons for tests. Each has its own root, state,
// socket and namespace, so that any number of them, and a system's own, run side by side.
//
//	d := containerdtest.Start(t)      // ready when it returns
//	rt, err := containerd.New(ctx, containerd.Config{Address: d.Address, Namespace: d.Namespace, …})
//	d.Kill(); d.Restart()             // what runs goes on meanwhile
//
// When the test ends the daemon is stopped, the shims it started are killed with all their
// descendants, and its mounts and directories are removed. Nothing of another daemon is
// touched: shims are found by the socket address in their command line.
package containerdtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Binary is the daemon to start; the environment variable ECSD_TEST_CONTAINERD names
// another one, to run the suites against another version.
var Binary = func() string {
	if b := os.Getenv("ECSD_TEST_CONTAINERD"); b != "" {
		return b
	}
	return "containerd"
}()

// Daemon is one private containerd.
type Daemon struct {
	Address   string // absolute path of the socket
	Namespace string // random: the OCI runtime's state directory is shared by all daemons of a namespace
	Root      string
	State     string

	tb  testing.TB
	dir string
	cmd *exec.Cmd
	log *os.File
}

// Require skips the test where containers cannot be run, and says why. Under CI=true it
// fails instead: there, a skip would be a test that nobody runs.
func Require(tb testing.TB) {
	tb.Helper()
	why := missing()
	if why == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		tb.Fatalf("CI must run tests on a real containerd, but %s", why)
	}
	tb.Skipf("SKIPPED: needs a real containerd, but %s", why)
}

func missing() string {
	if os.Geteuid() != 0 {
		return "this is not root"
	}
	for _, binary := range []string{Binary, "runc"} {
		if _, err := exec.LookPath(binary); err != nil {
			return binary + " is not installed"
		}
	}
	return ""
}

// Start starts a daemon and returns when it accepts connections. It skips the test as
// Require does.
func Start(tb testing.TB) *Daemon {
	tb.Helper()
	Require(tb)
	// Not tb.TempDir: its path can be longer than a socket's may be (107 bytes).
	dir, err := os.MkdirTemp("", "ctrd")
	if err != nil {
		tb.Fatal(err)
	}
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	d := &Daemon{
		tb:        tb,
		dir:       dir,
		Address:   filepath.Join(dir, "c.sock"),
		Root:      filepath.Join(dir, "root"),
		State:     filepath.Join(dir, "state"),
		Namespace: "ecsdtest-" + hex.EncodeToString(id),
	}
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.internal.v1.opt"]
[grpc]
  address = %q
[debug]
  level = "warn"
`, d.Root, d.State, d.Address)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	if d.log, err = os.Create(filepath.Join(dir, "containerd.log")); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.cleanup)
	d.Restart()
	return d
}

// Restart starts the daemon again after Stop or Kill, on the same root and state, and
// returns when it accepts connections. On a running one it does nothing.
func (d *Daemon) Restart() {
	d.tb.Helper()
	if d.cmd != nil {
		return
	}
	cmd := exec.Command(Binary, "--config", filepath.Join(d.dir, "config.toml"))
	cmd.Stdout, cmd.Stderr = d.log, d.log
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // a ^C at the test is not for it
	if err := cmd.Start(); err != nil {
		d.tb.Fatalf("start containerd: %v", err)
	}
	d.cmd = cmd
	ctx, cancel := context.WithTimeout(context.Background(), Patience(20*time.Second))
	defer cancel()
	if err := dial(ctx, d.Address); err != nil {
		d.tb.Fatalf("containerd did not come up: %v\n%s", err, d.Log())
	}
}

// dial connects until the socket answers.
func dial(ctx context.Context, address string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// PID is the daemon's process id; 0 when it is stopped.
func (d *Daemon) PID() int {
	if d.cmd == nil {
		return 0
	}
	return d.cmd.Process.Pid
}

// Stop ends the daemon as an operator would. Containers go on running.
func (d *Daemon) Stop() { d.end(unix.SIGTERM) }

// Kill ends the daemon with SIGKILL. Containers go on running.
func (d *Daemon) Kill() { d.end(unix.SIGKILL) }

func (d *Daemon) end(signal os.Signal) {
	if d.cmd == nil {
		return
	}
	cmd := d.cmd
	d.cmd = nil
	_ = cmd.Process.Signal(unix.SIGCONT) // a test may have stopped it
	_ = cmd.Process.Signal(signal)
	overdue := time.AfterFunc(Patience(10*time.Second), func() { _ = cmd.Process.Kill() })
	defer overdue.Stop()
	_ = cmd.Wait() // its exit status is of no interest
	_ = os.Remove(d.Address)
}

// Freeze stops the daemon from answering (SIGSTOP), and returns when all of it has
// stopped; Thaw lets it go on.
func (d *Daemon) Freeze() {
	_ = d.cmd.Process.Signal(unix.SIGSTOP)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if d.stopped() {
			return
		}
	}
}

// stopped reports whether every thread of the daemon has the state T.
func (d *Daemon) stopped() bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.cmd.Process.Pid))
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that is gone
		}
		if _, state, _ := strings.Cut(string(b), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// Thaw ends a Freeze.
func (d *Daemon) Thaw() { _ = d.cmd.Process.Signal(unix.SIGCONT) }

// Log is what the daemon has written so far.
func (d *Daemon) Log() string {
	b, _ := os.ReadFile(d.log.Name())
	return string(b)
}

// Shims are the process ids of the shims that this daemon started, in ascending order.
func (d *Daemon) Shims() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue
		}
		args := bytes.Split(cmdline, []byte{0})
		if !strings.Contains(filepath.Base(string(args[0])), "containerd-shim") {
			continue
		}
		for i, arg := range args {
			if string(arg) == "-address" && i+1 < len(args) && string(args[i+1]) == d.Address {
				pids = append(pids, pid)
			}
		}
	}
	sort.Ints(pids)
	return pids
}

func (d *Daemon) cleanup() {
	failed := d.tb.Failed()
	d.Stop()
	for _, shim := range d.Shims() {
		for _, pid := range append(descendants(shim), shim) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	for _, point := range mountsBelow(d.dir) {
		_ = unix.Unmount(point, unix.MNT_DETACH)
	}
	_ = os.RemoveAll(filepath.Join("/run/containerd/runc", d.Namespace))
	if failed {
		d.tb.Logf("containerd's log:\n%s", tail(d.Log(), 8000))
	}
	_ = d.log.Close()
	if err := os.RemoveAll(d.dir); err != nil {
		d.tb.Errorf("leaked: %v", err)
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// descendants lists the children of a process, and theirs.
func descendants(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range tasks {
		data, _ := os.ReadFile(file)
		for _, field := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(append(all, descendants(child)...), child)
			}
		}
	}
	return all
}

// mountsBelow lists the mount points below a directory, deepest first.
func mountsBelow(dir string) []string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			points = append(points, f[4])
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(points)))
	return points
}
