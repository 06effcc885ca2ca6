package spec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ecsd/pkg/spec"
	"ecsd/test/testimage"
)

// TestOCIRuns hands specs to the real runtimes, and asks inside the container what came
// of them. Each case is the members of a container's definition that matter, a command of
// testbox, and what it has to print.
func TestOCIRuns(t *testing.T) {
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) {
			machine := newMachine(t, runtime)
			for _, c := range runtimeCases(machine) {
				t.Run(c.name, func(t *testing.T) { machine.check(t, c) })
			}
		})
	}
}

type runtimeCase struct {
	name string
	c    spec.ContainerDefinition // Command is what testbox does
	host func(*spec.Host)         // changes to the machine's host
	want string                   // regular expression of what it prints, all of it
	fail bool                     // testbox is to fail
	mode string                   // network mode of the task
	only func(*machine) bool
}

func runtimeCases(m *machine) []runtimeCase {
	yes, no := true, false
	number := func(n int) *int { return &n }
	onV1 := func(m *machine) bool { return !m.host.CgroupV2 }
	memory := "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	pids := "/sys/fs/cgroup/pids/pids.max"
	if m.host.CgroupV2 {
		memory, pids = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max"
	}
	command := func(args ...string) spec.ContainerDefinition {
		return spec.ContainerDefinition{Command: args}
	}
	with := func(c spec.ContainerDefinition, change func(*spec.ContainerDefinition)) spec.ContainerDefinition {
		change(&c)
		return c
	}
	volume := func(readOnly *bool) func(*spec.ContainerDefinition) {
		return func(c *spec.ContainerDefinition) {
			c.MountPoints = []spec.MountPoint{{SourceVolume: "data", ContainerPath: "/data/inner", ReadOnly: readOnly}}
		}
	}
	return []runtimeCase{
		{name: "user", c: with(command("id"), func(c *spec.ContainerDefinition) { c.User = "app" }), want: "1000:1000:(1000,29|29,1000)\n"},
		{name: "user and group", c: with(command("id"), func(c *spec.ContainerDefinition) { c.User = "app:audio" }), want: "1000:29:29\n"},
		{name: "env", c: with(command("env"), func(c *spec.ContainerDefinition) {
			c.User, c.Environment = "app", []spec.KeyValuePair{{Name: "A", Value: "b c"}}
		}), want: "(?s).*HOME=/home/app\n.*A=b c\n.*"},
		{name: "hostname", c: with(command("cat", "/proc/sys/kernel/hostname"), func(c *spec.ContainerDefinition) { c.Hostname = "web-1" }), want: "web-1\n"},
		{name: "working directory is made", c: with(command("ls", "."), func(c *spec.ContainerDefinition) { c.WorkingDirectory = "/not/there/yet" }), want: ""},
		{name: "capabilities", c: command("status", "CapEff"), want: fmt.Sprintf("%016x\n", mask(spec.DefaultCapabilities()))},
		{name: "no capabilities", c: with(command("status", "CapBnd"), func(c *spec.ContainerDefinition) {
			c.LinuxParameters = &spec.LinuxParameters{Capabilities: &spec.KernelCapabilities{Drop: []string{"ALL"}}}
		}), want: "0000000000000000\n"},
		{name: "a user has none", c: with(command("status", "CapEff"), func(c *spec.ContainerDefinition) { c.User = "app" }), want: "0000000000000000\n"},
		{name: "privileged", c: with(command("status", "CapEff"), func(c *spec.ContainerDefinition) { c.Privileged = &yes }), want: fmt.Sprintf("%016x\n", mask(m.host.Capabilities))},
		{name: "privileged has no seccomp", c: with(command("status", "Seccomp"), func(c *spec.ContainerDefinition) { c.Privileged = &yes }), want: "0\n"},
		{name: "seccomp", c: command("status", "Seccomp"), want: "2\n"},
		{name: "seccomp native", c: command("status", "Seccomp"), host: func(h *spec.Host) { h.SeccompArches = spec.SeccompNative }, want: "2\n"},
		{name: "may gain privileges", c: command("status", "NoNewPrivs"), want: "0\n"},
		{name: "no new privileges", c: with(command("status", "NoNewPrivs"), func(c *spec.ContainerDefinition) {
			c.DockerSecurityOptions = []string{"no-new-privileges"}
		}), want: "1\n"},
		{name: "masked", c: command("cat", "/proc/interrupts"), want: ""},
		{name: "read-only proc", c: command("write", "/proc/sys/kernel/hostname", "x"), want: "(?s).*read-only.*", fail: true},
		{name: "read-only sys", c: command("write", "/sys/kernel/mm/transparent_hugepage/enabled", "never"), want: "(?s).*read-only.*", fail: true},
		{name: "low ports for all", c: command("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"), want: "0\n"},
		{name: "sysctl", c: with(command("cat", "/proc/sys/kernel/shmmni"), func(c *spec.ContainerDefinition) {
			c.SystemControls = []spec.SystemControl{{Namespace: "kernel.shmmni", Value: "77"}}
		}), want: "77\n"},
		{name: "host network", mode: "host", c: command("cat", "/proc/sys/kernel/hostname"), host: func(h *spec.Host) { h.NetworkNamespace, h.Hostname = "", "the-host" }, want: "the-host\n"},
		{name: "devices", c: command("ls", "/dev"), want: "(?s).*full\n.*null\n.*shm\n.*zero\n"},
		{name: "root is writable", c: command("write", "/home/app/x", "y"), want: ""},
		{name: "root is read-only", c: with(command("write", "/home/app/x", "y"), func(c *spec.ContainerDefinition) { c.ReadonlyRootFilesystem = &yes }), want: "(?s).*read-only.*", fail: true},
		{name: "shm of a read-only root", c: with(command("write", "/dev/shm/x", "y"), func(c *spec.ContainerDefinition) { c.ReadonlyRootFilesystem = &yes }), want: ""},
		{name: "etc file", c: command("cat", "/etc/hosts"), want: "192.0.2.1 from-ecsd\n"},
		{name: "volume", c: with(command("cat", "/data/inner/greeting"), volume(&no)), want: "hello\n"},
		{name: "read-only volume", c: with(command("write", "/data/inner/x", "y"), volume(&yes)), want: "(?s).*read-only.*", fail: true},
		{name: "tmpfs", c: with(command("cat", "/proc/self/mounts"), func(c *spec.ContainerDefinition) {
			c.LinuxParameters = &spec.LinuxParameters{SharedMemorySize: number(8), Tmpfs: []spec.Tmpfs{{ContainerPath: "/scratch", Size: 3, MountOptions: []string{"exec", "mode=0700"}}}}
		}), want: "(?s).*shm /dev/shm tmpfs [^\n]*size=8192k.*tmpfs /scratch tmpfs rw,nosuid,nodev,relatime,size=3072k,mode=700.*"},
		{name: "ulimits", c: with(command("cat", "/proc/self/limits"), func(c *spec.ContainerDefinition) {
			c.Ulimits = []spec.Ulimit{{Name: "nofile", SoftLimit: 512, HardLimit: 1024}, {Name: "core", SoftLimit: 0, HardLimit: 0}}
		}), want: `(?s).*Max core file size +0 +0 .*Max open files +\d+ +1024 .*`}, // Go raises the soft limit of open files
		{name: "pids limit", c: command("cat", pids), want: "4096\n"},
		{name: "memory", c: with(command("cat", memory), func(c *spec.ContainerDefinition) { c.Memory = 64 }), want: "67108864\n"},
		{name: "swap", c: with(command("cat", "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"), func(c *spec.ContainerDefinition) {
			c.Memory, c.LinuxParameters = 64, &spec.LinuxParameters{MaxSwap: number(16)}
		}), want: "83886080\n", only: func(m *machine) bool { return onV1(m) && m.host.SwapAccounting }},
		{name: "swap on v2", c: with(command("cat", "/sys/fs/cgroup/memory.swap.max"), func(c *spec.ContainerDefinition) {
			c.Memory, c.LinuxParameters = 64, &spec.LinuxParameters{MaxSwap: number(16)}
		}), want: "16777216\n", only: func(m *machine) bool { return m.host.CgroupV2 && m.host.SwapAccounting }},
		{name: "memory reservation on v2", c: with(command("cat", "/sys/fs/cgroup/memory.low"), func(c *spec.ContainerDefinition) {
			c.Memory, c.MemoryReservation = 64, 32
		}), want: "33554432\n", only: func(m *machine) bool { return m.host.CgroupV2 }},
		{name: "cpu shares", c: with(command("cat", "/sys/fs/cgroup/cpu/cpu.shares"), func(c *spec.ContainerDefinition) { c.CPU = 512 }), want: "512\n", only: onV1},
		{name: "cgroup namespace", c: command("cat", "/proc/self/cgroup"), want: "(\\d+:[^:]*:/\n)+"},
		{name: "cgroups are read-only", c: command("write", pids, "max"), want: "(?s).*read-only.*", fail: true},
		{name: "device", c: with(command("exists", "/dev/mapped"), func(c *spec.ContainerDefinition) {
			c.LinuxParameters = &spec.LinuxParameters{Devices: []spec.Device{{HostPath: "/dev/null", ContainerPath: "/dev/mapped", Permissions: []string{"read"}}}}
		}), want: ""},
		{name: "pseudo terminals", c: command("exists", "/dev/pts/ptmx"), want: ""},
	}
}

// machine is a runtime on this machine, with a root filesystem and a network namespace.
type machine struct {
	runtime string
	dir     string
	host    spec.Host
	passwd  []byte
	group   []byte
	runs    int
}

func newMachine(t *testing.T, runtime string) *machine {
	t.Helper()
	need := func(ok bool, format string, args ...any) {
		if ok {
			return
		}
		why := fmt.Sprintf(format, args...)
		if os.Getenv("CI") == "true" && runtime == "runc" {
			t.Fatalf("the test needs %s", why)
		}
		t.Skipf("SKIPPED: the test needs %s", why)
	}
	need(os.Geteuid() == 0, "root: run it as root to see real containers")
	_, err := exec.LookPath(runtime)
	need(err == nil, "%s in PATH", runtime)

	m := &machine{runtime: runtime, dir: t.TempDir()}
	m.host = spec.Host{
		CgroupParent:     fmt.Sprintf("/ecsd-spec-test-%d-%s", os.Getpid(), runtime),
		NetworkNamespace: networkNamespace(t),
		Capabilities:     heldCapabilities(t),
		PidsLimit:        4096,
		Volumes:          map[string]string{"data": filepath.Join(m.dir, "data")},
		Etc:              spec.EtcFiles{Hosts: filepath.Join(m.dir, "hosts")},
		Devices:          map[string]spec.HostDevice{"/dev/null": {Type: "c", Major: 1, Minor: 3, Mode: 0o666}},
	}
	_, err = os.Stat("/sys/fs/cgroup/cgroup.controllers")
	m.host.CgroupV2 = err == nil
	_, err = os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	m.host.SwapAccounting = err == nil
	if m.host.CgroupV2 { // the root group has no such file
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/memory.swap.max")
		m.host.SwapAccounting = len(groups) > 0
	}
	t.Cleanup(func() { removeCgroups(t, m.host.CgroupParent) })
	m.write(t, "hosts", 0o644, "192.0.2.1 from-ecsd\n")
	m.write(t, "data/greeting", 0o644, "hello\n")
	for _, f := range testimage.Files(t) {
		if f.Mode.IsDir() {
			if err := os.MkdirAll(filepath.Join(m.dir, "rootfs", f.Path), f.Mode.Perm()); err != nil {
				t.Fatal(err)
			}
			continue
		}
		m.write(t, filepath.Join("rootfs", f.Path), f.Mode, string(f.Data))
		switch f.Path {
		case "/etc/passwd":
			m.passwd = f.Data
		case "/etc/group":
			m.group = f.Data
		}
	}
	if out, err := m.run(t, runtimeCase{c: spec.ContainerDefinition{Command: []string{"exit", "0"}}}); err != nil {
		t.Fatalf("%s runs nothing: %v\n%s", runtime, err, out)
	}
	return m
}

func (m *machine) check(t *testing.T, c runtimeCase) {
	if c.only != nil && !c.only(m) {
		t.Skip("SKIPPED: this machine's cgroups have no such file")
	}
	out, err := m.run(t, c)
	var exit *exec.ExitError
	if c.fail != (errors.As(err, &exit) && exit.ExitCode() == 1) || !c.fail && err != nil {
		t.Fatalf("%v, want it to fail: %v; it printed:\n%s", err, c.fail, out)
	}
	if !regexp.MustCompile("^(?:" + c.want + ")$").MatchString(out) {
		t.Errorf("it printed %q, want %q", out, c.want)
	}
}

// run makes a bundle and runs it to its end. It gives what was printed.
func (m *machine) run(t *testing.T, c runtimeCase) (string, error) {
	t.Helper()
	m.runs++
	host := m.host
	if c.host != nil {
		c.host(&host)
	}
	container := c.c
	container.Name = "web"
	task := spec.Task{ID: fmt.Sprintf("%032x", m.runs), Definition: spec.TaskDefinition{
		Family: "web", NetworkMode: c.mode, ContainerDefinitions: []spec.ContainerDefinition{container},
	}}
	img := spec.ImageConfig{Entrypoint: []string{"/testbox"}, Passwd: m.passwd, Group: m.group}
	s, err := spec.OCI(task, "web", img, host)
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "config.json", 0o600, string(config))
	id, _ := spec.ContainerID(task, "web")
	args := []string{m.runtime, "--root", filepath.Join(m.dir, "state"), "run", "--bundle", m.dir, id}
	if m.runtime == "crun" && !m.host.CgroupV2 {
		// crun 1.8 refuses to work beside a v2 hierarchy that has controllers of its own.
		args = append([]string{"unshare", "-m", "sh", "-c", `umount /sys/fs/cgroup/unified 2>/dev/null; exec "$0" "$@"`}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

func (m *machine) write(t *testing.T, name string, mode os.FileMode, data string) {
	t.Helper()
	file := filepath.Join(m.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(data), mode)); err != nil {
		t.Fatal(err)
	}
}

// networkNamespace is the path of a new network namespace that lives as long as the test,
// held by a process that waits.
func networkNamespace(t *testing.T) string {
	t.Helper()
	holder := exec.Command(testimage.Binary(t), "pause")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	return fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)
}

// heldCapabilities are those this process could hand on.
func heldCapabilities(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "CapBnd:")
	line, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	var held []string
	for n, c := range spec.AllCapabilities() {
		if set&(1<<n) != 0 {
			held = append(held, c)
		}
	}
	if len(held) == 0 || bits.OnesCount64(set) < len(held) {
		t.Fatalf("CapBnd %x gave %v", set, held)
	}
	return held
}

// mask is a set of capabilities as /proc/<pid>/status prints it.
func mask(set []string) uint64 {
	var m uint64
	for _, c := range set {
		m |= 1 << slices.Index(spec.AllCapabilities(), c)
	}
	return m
}

// removeCgroups removes what the runtime leaves: the parents of its leaves, in every
// hierarchy.
func removeCgroups(t *testing.T, parent string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		inside, _ := filepath.Glob(pattern + parent + "/*")
		parents, _ := filepath.Glob(pattern + parent)
		for _, dir := range append(inside, parents...) {
			err := syscall.Rmdir(dir) // a control file is no directory
			if err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ENOTDIR) {
				t.Errorf("rmdir %s: %v", dir, err)
			}
		}
	}
}
