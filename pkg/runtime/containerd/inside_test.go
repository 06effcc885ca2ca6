package containerd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
	"ecsd/test/containerdtest"
)

// TestWhatContainersSee looks from inside: files, environment, user, volumes, network.
func TestWhatContainersSee(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	host := filepath.Join(t.TempDir(), "made", "by", "ecsd")
	web, side := box("web", "pause"), box("side", "pause")
	web.Hostname = "webhost"
	web.Environment = []spec.KeyValuePair{{Name: "FROM_DEFINITION", Value: "yes"}}
	web.ExtraHosts = []spec.HostEntry{{Hostname: "elsewhere", IPAddress: "192.0.2.7"}}
	web.DNSServers = []string{"192.0.2.53"}
	web.MountPoints = []spec.MountPoint{{SourceVolume: "shared", ContainerPath: "/shared"}, {SourceVolume: "host", ContainerPath: "/host"}}
	side.MountPoints = []spec.MountPoint{{SourceVolume: "shared", ContainerPath: "/data"}}
	side.Links = []string{"web:www"}
	side.User = "app"
	tk := task("bridge", web, side)
	tk.Definition.Volumes = []spec.Volume{{Name: "shared"}, {Name: "host", Host: &spec.HostVolumeProperties{SourcePath: host}}}
	image := m.pull(r)
	m.ok("create sandbox", r.CreateSandbox(t.Context(), tk))
	m.ok("create web", r.CreateContainer(t.Context(), tk, runtime.CreateConfig{Name: "web", Image: image, Env: map[string]string{"SECRET": "canary"}}))
	m.ok("create side", r.CreateContainer(t.Context(), tk, runtime.CreateConfig{Name: "side", Image: image}))
	for _, name := range []string{"web", "side"} {
		m.ok("start "+name, r.StartContainer(t.Context(), tk.ID, name))
	}
	inside := func(container string, command ...string) string {
		t.Helper()
		result, err := r.Exec(t.Context(), tk.ID, container, "look", append([]string{"/testbox"}, command...), 1<<16)
		m.ok("exec "+strings.Join(command, " "), err)
		return result.Output
	}
	sees := func(output string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(output, w) {
				t.Errorf("no %q in:\n%s", w, output)
			}
		}
	}
	sees(inside("web", "env"), "FROM_DEFINITION=yes", "FROM_IMAGE=yes", "HOSTNAME=webhost", "SECRET=canary")
	sees(inside("web", "cat", "/etc/hostname"), "webhost")
	address := m.look(r, tk).Sandbox.Networks["web"].IPv4.String()
	sees(inside("web", "cat", "/etc/hosts"), address+"\twebhost", "192.0.2.7\telsewhere")
	sees(inside("side", "cat", "/etc/hosts"), address+"\twww web")
	sees(inside("web", "cat", "/etc/resolv.conf"), "nameserver 192.0.2.53")
	sees(inside("side", "id"), "1000:1000:")
	inside("web", "write", "/shared/note", "from web")
	sees(inside("side", "cat", "/data/note"), "from web")
	inside("web", "write", "/host/note", "kept")
	if b, err := os.ReadFile(filepath.Join(host, "note")); err != nil || !strings.Contains(string(b), "kept") {
		t.Errorf("host volume holds %q, %v", b, err)
	}
	rec, err := r.find(t.Context(), tk.ID, "web")
	m.ok("find", err)
	for k, v := range rec.Labels {
		if strings.Contains(v, "canary") {
			t.Errorf("label %s shows a secret", k)
		}
	}
	m.ok("files of ours show no secret", filepath.WalkDir(m.config.DataDir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), "canary") {
			t.Errorf("%s shows a secret", path)
		}
		return nil
	}))
	stats, err := r.Stats(t.Context(), tk.ID)
	m.ok("stats", err)
	if s := stats["web"]; s.CPUUsage == 0 || s.MemoryUsage == 0 || s.Processes == 0 || s.MemoryLimit != 64<<20 {
		t.Errorf("figures are %+v", s)
	}
	m.remove(r, tk)
	if _, err := os.Stat(filepath.Join(host, "note")); err != nil {
		t.Errorf("a volume of the host went with its task: %v", err)
	}
}

// TestSharedNamespaces: containers of a task with pidMode and ipcMode "task" see each other,
// and the end of one does not end the others.
func TestSharedNamespaces(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	tk := task("none", box("a", "pause"), box("b", "after", "200ms", "3"))
	tk.Definition.PIDMode, tk.Definition.IPCMode = "task", "task"
	m.start(r, tk)
	m.exited(r, tk, "b")
	seen := m.look(r, tk)
	if len(seen.Containers) != 2 || !seen.Containers["a"].Live() || seen.Processes != 0 || !seen.Sandbox.Ready {
		t.Errorf("task is %+v, want two containers, one live, and nothing left over", seen)
	}
	init, err := r.initPID(t.Context(), tk.ID)
	m.ok("init", err)
	for _, ns := range []string{"pid", "ipc"} {
		of := func(pid int) string {
			link, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", ns))
			m.ok("namespace", err)
			return link
		}
		if a, b := of(init), of(seen.Containers["a"].PID); a != b {
			t.Errorf("%s namespace of the container is %s, of the task %s", ns, b, a)
		}
	}
	result, err := r.Exec(t.Context(), tk.ID, "a", "x", []string{"/testbox", "write", "/dev/shm/x", "x"}, 10)
	if err != nil || result.Code != 0 {
		t.Errorf("write to the shared memory: %+v, %v", result, err)
	}
	if _, err := os.Stat(filepath.Join(r.shmDir(tk.ID), "x")); err != nil {
		t.Errorf("shared memory is not the task's: %v", err)
	}
	m.remove(r, tk)
}

// TestLogs: what a container prints is in its file, stream by stream, also from a terminal,
// and outlives the task until it is removed.
func TestLogs(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	on := true
	tty, quiet := box("tty", "echo", "from a terminal"), box("quiet", "echo", "nobody hears")
	tty.PseudoTerminal = &on
	quiet.LogConfiguration = &spec.LogConfiguration{LogDriver: "none"}
	rotated := box("rotated", "lines", "2000", "100")
	rotated.LogConfiguration = &spec.LogConfiguration{LogDriver: "json-file", Options: map[string]string{"max-size": "64k", "max-file": "2"}}
	tk := task("none", box("plain", "echo", "hello there"), tty, quiet, rotated)
	m.start(r, tk)
	for _, c := range tk.Definition.ContainerDefinitions {
		m.exited(r, tk, c.Name)
	}
	holds := func(name, want string) {
		t.Helper()
		m.eventually("the log of "+name, func() bool {
			b, err := os.ReadFile(r.LogFile(tk.ID, name))
			return err == nil && strings.Contains(string(b), want)
		})
	}
	holds("plain", " stdout F hello there\n")
	holds("tty", " stdout F from a terminal")
	if _, err := os.Stat(r.LogFile(tk.ID, "quiet")); !os.IsNotExist(err) {
		t.Errorf("output that is to be discarded is in a file: %v", err)
	}
	files, err := filepath.Glob(r.LogFile(tk.ID, "rotated") + "*")
	m.ok("glob", err)
	if len(files) != 2 {
		t.Errorf("rotated files are %q, want 2", files)
	}
	for name := range m.look(r, tk).Containers {
		m.ok("remove "+name, r.RemoveContainer(t.Context(), tk.ID, name))
	}
	m.ok("remove the sandbox", r.RemoveSandbox(t.Context(), tk.ID))
	holds("plain", "hello there")
	m.ok("remove the logs", r.RemoveLogs(t.Context(), tk.ID))
	if _, err := os.Stat(r.logDir(tk.ID)); !os.IsNotExist(err) {
		t.Errorf("logs are left: %v", err)
	}
}

// TestSandboxRepair: what somebody took away is put back, under live containers.
func TestSandboxRepair(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	tk := task("bridge", box("a", "pause"))
	m.start(r, tk)
	pid := m.look(r, tk).Containers["a"].PID
	m.ok("delete the bridge", exec.Command("ip", "link", "del", m.config.Bridge).Run())
	m.eventually("the loss is seen, or mended already", func() bool {
		m.ok("create sandbox", r.CreateSandbox(t.Context(), tk))
		return m.look(r, tk).Sandbox.Ready
	})
	c := m.look(r, tk).Containers["a"]
	if !c.Live() || c.PID != pid {
		t.Errorf("the container did not live through the repair: %+v", c)
	}
	m.remove(r, tk)
}

// TestManyAtOnce: many tasks at once share nothing.
func TestManyAtOnce(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	image := m.pull(r)
	done := make(chan error)
	const n = 8
	for range n {
		tk := task("bridge", box("a", "pause"))
		go func() {
			done <- func() error {
				if err := r.CreateSandbox(t.Context(), tk); err != nil {
					return err
				}
				if err := r.CreateContainer(t.Context(), tk, runtime.CreateConfig{Name: "a", Image: image}); err != nil {
					return err
				}
				return r.StartContainer(t.Context(), tk.ID, "a")
			}()
		}()
	}
	for range n {
		select {
		case err := <-done:
			m.ok("start", err)
		case <-time.After(containerdtest.Patience(time.Minute)):
			t.Fatal("tasks do not start")
		}
	}
	all, err := r.List(t.Context())
	m.ok("list", err)
	addresses := map[string]bool{}
	for _, seen := range all {
		if !seen.Containers["a"].Live() || seen.Processes != 0 {
			t.Errorf("task is %+v", seen)
		}
		addresses[seen.Sandbox.Networks["a"].IPv4.String()] = true
	}
	if len(all) != n || len(addresses) != n {
		t.Errorf("%d tasks with %d addresses, want %d of each", len(all), len(addresses), n)
	}
	for _, seen := range all {
		m.remove(r, spec.Task{ID: seen.ID})
	}
}
