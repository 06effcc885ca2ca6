package containerd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ecsd/pkg/runtime"
	"ecsd/pkg/runtime/containerd/network"
	"ecsd/pkg/spec"
	"ecsd/test/containerdtest"
	"ecsd/test/testimage"
)

// The tests on a real containerd run in a copy of this test program with a network and a
// mount namespace of its own: its network namespace plays the host, and the daemons they
// start live in it too. The machine's rules, sysctls and mounts are not touched.

const insideEnv = "ECSD_CONTAINERD_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(insideEnv) != "" {
		code := m.Run()
		if dir, err := logBinaryDir(); err == nil {
			_ = os.RemoveAll(dir)
		}
		os.Exit(code)
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), insideEnv+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	err := c.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "cannot run in namespaces of its own:", err)
	os.Exit(1)
}

var logBinaryDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "ecsd-log") })

// logBinary builds ecsd-log, once, or takes the one of ECSD_E2E_BIN.
var logBinary = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("ECSD_E2E_BIN"); dir != "" {
		return filepath.Join(dir, "ecsd-log"), nil
	}
	dir, err := logBinaryDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ecsd-log")
	build := exec.Command("go", "build", "-o", path, "ecsd/cmd/ecsd-log")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// machine is a daemon and the places of one agent on it.
type machine struct {
	*testing.T
	daemon *containerdtest.Daemon
	config Config
}

func newMachine(t *testing.T, change ...func(*Config)) *machine {
	t.Helper()
	// Clean-up runs backwards: the daemon with all that it runs, then what that held, then
	// the directory.
	m := &machine{T: t}
	dir := t.TempDir()
	t.Cleanup(m.cleanup)
	m.daemon = containerdtest.Start(t)
	d := m.daemon
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	log, err := logBinary()
	if err != nil {
		t.Fatal(err)
	}
	m.config = Config{
		Address: d.Address, Namespace: d.Namespace,
		DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"), LogDir: filepath.Join(dir, "log"),
		CgroupParent: "/" + d.Namespace,
		Bridge:       "ecsdt0", BridgeCIDR: netip.MustParsePrefix("10.78.0.0/24"), DynamicPortRange: [2]uint16{41000, 41999},
		LogBinary: log, SeccompArches: "native",
	}
	if testing.Verbose() {
		m.config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	for _, f := range change {
		f(&m.config)
	}
	return m
}

// cleanup removes what outlives the daemon: the parent of all cgroups, in which a test that
// passed has left nothing, and the network with the mount that holds its namespaces.
func (m *machine) cleanup() {
	if m.config.DataDir == "" {
		return // skipped
	}
	for _, dir := range cgroupDirs(m.config.CgroupParent) {
		if strings.HasSuffix(dir, ".slice") {
			out, err := exec.Command("systemctl", "stop", filepath.Base(dir)).CombinedOutput() // with all that is in it
			m.ok("stop the slice of all tasks: "+string(out), err)
			continue
		}
		if m.Failed() {
			_ = exec.Command("find", dir, "-depth", "-type", "d", "-delete").Run() // as far as it goes
			continue
		}
		m.ok("remove the cgroup parent", os.Remove(dir))
	}
	c := network.Config{Bridge: m.config.Bridge, CIDR: m.config.BridgeCIDR, RunDir: m.config.RunDir}
	m.ok("remove the network", network.Remove(context.Background(), c))
}

// agent makes a Runtime on the machine and runs it; end stops it, as a test's end does.
func (m *machine) agent() (r *Runtime, end func()) {
	m.Helper()
	r, err := New(m.Context(), m.config)
	if err != nil {
		m.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			m.Errorf("run: %v", err)
		}
		if err := r.Close(); err != nil {
			m.Errorf("close: %v", err)
		}
	})
	m.Cleanup(end)
	return r, end
}

// pull pulls the test image.
func (m *machine) pull(r *Runtime) runtime.Image {
	m.Helper()
	image, err := r.Pull(m.Context(), testimage.Ref(m), runtime.Auth{})
	m.ok("pull", err)
	return image
}

func (m *machine) ok(what string, err error) {
	m.Helper()
	if err != nil {
		m.Fatalf("%s: %v", what, err)
	}
}

// start makes a task and starts its containers.
func (m *machine) start(r *Runtime, t spec.Task) {
	m.Helper()
	image := m.pull(r)
	m.ok("create sandbox", r.CreateSandbox(m.Context(), t))
	for _, c := range t.Definition.ContainerDefinitions {
		m.ok("create "+c.Name, r.CreateContainer(m.Context(), t, runtime.CreateConfig{Name: c.Name, Image: image}))
		m.ok("start "+c.Name, r.StartContainer(m.Context(), t.ID, c.Name))
	}
}

// look observes a task that must be there.
func (m *machine) look(r *Runtime, t spec.Task) runtime.Task {
	m.Helper()
	seen, err := r.List(m.Context(), t.ID)
	m.ok("list", err)
	if len(seen) != 1 {
		m.Fatalf("list gives %+v, want task %s", seen, t.ID)
	}
	return seen[0]
}

// eventually looks at a task until cond holds, driven by the clock: some of what is waited
// for (processes that die, a daemon that comes back) sends no event.
func (m *machine) eventually(what string, cond func() bool) {
	m.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	patience := containerdtest.Patience(20 * time.Second)
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			m.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// exited waits for a container's end.
func (m *machine) exited(r *Runtime, t spec.Task, name string) runtime.Container {
	m.Helper()
	var c runtime.Container
	m.eventually("container "+name+" exits", func() bool {
		c = m.look(r, t).Containers[name]
		return c.Exited()
	})
	return c
}

// remove kills and removes a task with all that is left of it.
func (m *machine) remove(r *Runtime, t spec.Task) {
	m.Helper()
	ctx := context.Background()
	seen, err := r.List(ctx, t.ID)
	m.ok("list", err)
	for _, s := range seen {
		for name, c := range s.Containers {
			if c.Live() {
				m.ok("kill "+name, r.KillContainer(ctx, t.ID, name))
				m.exited(r, t, name)
			}
			m.eventually("container "+name+" is removed", func() bool {
				err = r.RemoveContainer(ctx, t.ID, name)
				return err == nil
			})
		}
	}
	m.eventually("sandbox is removed", func() bool { return r.RemoveSandbox(ctx, t.ID) == nil })
	m.ok("remove logs", r.RemoveLogs(ctx, t.ID))
}

// cgroupDirs are a group's directories in all hierarchies, and under systemd that of the
// slice that stands for it.
func cgroupDirs(path string) []string {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
	v2, _ := filepath.Glob("/sys/fs/cgroup" + path)
	slice, _ := filepath.Glob("/sys/fs/cgroup/" + spec.SlicePrefix(path) + ".slice")
	return slices.Concat(v1, v2, slice)
}

// task is a task of the test image with these containers.
func task(mode string, containers ...spec.ContainerDefinition) spec.Task {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	for i := range containers {
		containers[i].Image = "test"
	}
	return spec.Task{
		ID: hex.EncodeToString(id), Family: "family", Revision: 7, Slot: 1, Service: "service", Source: "test",
		DesiredStatus: spec.StatusRunning, CreatedAt: time.Now(),
		Definition: spec.TaskDefinition{Family: "family", NetworkMode: mode, ContainerDefinitions: containers},
	}
}

// box is a container that runs a testbox command.
func box(name string, command ...string) spec.ContainerDefinition {
	return spec.ContainerDefinition{Name: name, Command: command, Memory: 64}
}
