package containerd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
	"ecsd/test/containerdtest"
)

// inventory is all that a runtime can leave behind.
func (m *machine) inventory(r *Runtime) []string {
	m.Helper()
	ctx := context.Background()
	var all []string
	containers, err := r.client.ContainerService().List(ctx)
	m.ok("list containers", err)
	for _, c := range containers {
		all = append(all, "container "+c.ID)
	}
	leases, err := r.client.LeasesService().List(ctx)
	m.ok("list leases", err)
	for _, l := range leases {
		all = append(all, "lease "+l.ID)
	}
	name, err := r.snapshotterName(ctx)
	m.ok("snapshotter", err)
	m.ok("walk snapshots", r.client.SnapshotService(name).Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		all = append(all, "snapshot "+i.Name)
		return nil
	}))
	for _, dir := range []string{m.config.DataDir, m.config.RunDir, m.config.LogDir} {
		m.ok("walk "+dir, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil // deleted meanwhile
			}
			all = append(all, "file "+path)
			return err
		}))
	}
	for _, dir := range cgroupDirs(m.config.CgroupParent) {
		m.ok("walk "+dir, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if e != nil && e.IsDir() && path != dir {
				all = append(all, "cgroup "+path)
			}
			return err
		}))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	m.ok("mounts", err)
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if strings.HasPrefix(f[4], filepath.Dir(m.config.DataDir)) || strings.HasPrefix(f[4], m.daemon.State) {
			all = append(all, "mount "+f[4])
		}
	}
	runc, _ := filepath.Glob("/run/containerd/runc/" + m.config.Namespace + "/*")
	for _, f := range runc {
		all = append(all, "runc state "+f)
	}
	slices.Sort(all)
	return all
}

// TestNothingLeaks compares the machine before and after tasks of every kind.
func TestNothingLeaks(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	m.pull(r)
	warm := task("bridge", box("a", "exit", "0"))
	m.start(r, warm)
	m.remove(r, warm) // makes what is made once: bridge, parent cgroup, directories
	trash := filepath.Join(m.config.DataDir, "trash")
	m.eventually("the trash is emptied", func() bool {
		left, err := os.ReadDir(trash)
		return err == nil && len(left) == 0
	})
	before := m.inventory(r)

	for _, mode := range []string{"bridge", "host", "none"} {
		one, two := box("one", "pause"), box("two", "exit", "3")
		if mode == "bridge" {
			one.PortMappings = []spec.PortMapping{{ContainerPort: 80}, {ContainerPort: 53, Protocol: "udp"}}
		}
		one.MountPoints = []spec.MountPoint{{SourceVolume: "scratch", ContainerPath: "/scratch"}}
		tk := task(mode, one, two)
		tk.Definition.Volumes = []spec.Volume{{Name: "scratch"}}
		tk.Definition.PIDMode = map[string]string{"none": "task"}[mode]
		tk.Definition.IPCMode = map[string]string{"none": "task"}[mode]
		tk.Definition.CPU, tk.Definition.Memory = "256", "128"
		m.start(r, tk)
		if _, err := r.Exec(t.Context(), tk.ID, "one", "x", []string{"/testbox", "echo", "hello"}, 100); err != nil {
			t.Errorf("exec: %v", err)
		}
		m.exited(r, tk, "two")
		m.ok("run it again", r.StartContainer(t.Context(), tk.ID, "two"))
		m.remove(r, tk)
	}
	var after []string
	defer func() {
		for _, thing := range after {
			if !slices.Contains(before, thing) {
				t.Errorf("leaked: %s", thing)
			}
		}
		for _, thing := range before {
			if !slices.Contains(after, thing) {
				t.Errorf("lost: %s", thing)
			}
		}
	}()
	m.eventually("the machine is as before", func() bool {
		after = m.inventory(r)
		return slices.Equal(before, after)
	})
}

// TestShimKilled: containerd forgets the containers of a killed shim at once; their
// processes are still seen until they have died, and never taken for dead before.
func TestShimKilled(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	tk := task("none", box("a", "ignore"), box("b", "ignore"))
	m.start(r, tk)
	shims := m.daemon.Shims()
	if len(shims) != 1 {
		t.Fatalf("shims %v: want one for the whole task", shims)
	}
	pids := []int{m.look(r, tk).Containers["a"].PID, m.look(r, tk).Containers["b"].PID}
	m.daemon.Freeze() // so that it cannot kill what the shim leaves behind
	m.ok("kill the shim", unix.Kill(shims[0], unix.SIGKILL))
	m.daemon.Thaw()
	m.eventually("the task is seen dead", func() bool {
		seen, err := r.List(t.Context(), tk.ID)
		if err != nil {
			return false // cannot be observed now: no statement
		}
		dead := 0
		for _, c := range seen[0].Containers {
			if c.Exited() {
				dead++
			}
		}
		running := 0
		for _, pid := range pids {
			if alive(pid) {
				running++
			}
		}
		if dead == 2 && seen[0].Processes == 0 && running > 0 {
			t.Fatalf("the task is said to be dead while %d of its processes run", running)
		}
		return dead == 2 && seen[0].Processes == 0
	})
	for name, c := range m.look(r, tk).Containers {
		if c.Exit.Code != nil && *c.Exit.Code != 137 {
			t.Errorf("container %s exited with %d, want 137 or unknown", name, *c.Exit.Code)
		}
	}
	m.ok("start again", r.StartContainer(t.Context(), tk.ID, "a"))
	if c := m.look(r, tk).Containers["a"]; !c.Live() || c.Restarts != 1 {
		t.Errorf("container after a shim's death and a start is %+v", c)
	}
	m.remove(r, tk)
}

// alive reports whether a process runs: zombies do not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

// TestOrphanedProcesses: with containerd down nobody kills what a dead shim leaves. The
// kernel's word counts, and KillContainer reaches them by their cgroup.
func TestOrphanedProcesses(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	tk := task("none", box("a", "ignore"))
	m.start(r, tk)
	pid := m.look(r, tk).Containers["a"].PID
	m.daemon.Kill()
	m.ok("kill the shim", unix.Kill(m.daemon.Shims()[0], unix.SIGKILL))
	if _, err := r.List(t.Context(), tk.ID); err == nil {
		t.Error("a task is observed although containerd is down")
	}
	leaves, err := r.cgroups.Processes(tk.ID)
	m.ok("processes", err)
	if leaves.Total() != 1 || !alive(pid) {
		t.Errorf("processes %v, alive %v: want the one that the shim left", leaves, alive(pid))
	}
	m.daemon.Restart()
	m.eventually("it can be removed", func() bool {
		err := r.RemoveContainer(t.Context(), tk.ID, "a")
		return err == nil
	})
	if alive(pid) {
		t.Error("the container was removed and its process runs")
	}
	m.remove(r, tk)
}

// TestContainerdRestart: what runs goes on, and what ended meanwhile is known.
func TestContainerdRestart(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	events := r.Events(t.Context())
	tk := task("none", box("long", "pause"), box("short", "after", "300ms", "5"))
	m.start(r, tk)
	pid := m.look(r, tk).Containers["long"].PID
	m.daemon.Kill()
	drain(events)
	if err := r.StartContainer(t.Context(), tk.ID, "long"); err == nil || errdefs.IsNotFound(err) {
		t.Errorf("a call while containerd is down gives %v, want a passing fault", err)
	} else if _, final := runtime.Final(err); final {
		t.Errorf("a call while containerd is down is said to be the definition's fault: %v", err)
	}
	m.eventually("the short one has ended", func() bool {
		leaves, err := r.cgroups.Processes(tk.ID)
		return err == nil && leaves.Total() == 1
	})
	m.daemon.Restart()
	deadline := time.After(containerdtest.Patience(10 * time.Second))
	for again := false; !again; {
		select {
		case id := <-events:
			again = id == ""
		case <-deadline:
			t.Fatal("no word that the subscription was made again")
		}
	}
	c := m.exited(r, tk, "short")
	if c.Exit.Code == nil || *c.Exit.Code != 5 {
		t.Errorf("container that ended while containerd was down: %+v, want code 5", c.Exit)
	}
	long := m.look(r, tk).Containers["long"]
	if !long.Live() || long.PID != pid {
		t.Errorf("container that ran through the restart is %+v, want it live with pid %d", long, pid)
	}
	m.ok("exec after the restart", func() error {
		_, err := r.Exec(t.Context(), tk.ID, "long", "x", []string{"/testbox", "exit", "0"}, 10)
		return err
	}())
	m.remove(r, tk)
}

func drain(events <-chan string) {
	for {
		select {
		case <-events:
		default:
			return
		}
	}
}

// TestAgentRestart: a new Runtime on the same places goes on where the old one was, and
// counts the time of a stop that began before.
func TestAgentRestart(t *testing.T) {
	m := newMachine(t)
	r, end := m.agent()
	c := box("web", "http", ":80", "hello")
	c.PortMappings = []spec.PortMapping{{ContainerPort: 80}}
	tk := task("bridge", c, box("b", "ignore"))
	m.start(r, tk)
	m.ok("stop", r.StopContainer(t.Context(), tk.ID, "b"))
	before := m.look(r, tk)
	end()
	r, _ = m.agent()
	after := m.look(r, tk)
	if !after.Sandbox.Ready || after.Sandbox.Networks["web"].IPv4 != before.Sandbox.Networks["web"].IPv4 {
		t.Errorf("sandbox after a restart of the agent is %+v, was %+v", after.Sandbox, before.Sandbox)
	}
	for name := range before.Containers {
		if a, b := after.Containers[name], before.Containers[name]; a != b {
			t.Errorf("container %s is %+v, was %+v", name, a, b)
		}
	}
	if len(r.HostPortsInUse()) != 1 {
		t.Errorf("published ports after a restart: %v", r.HostPortsInUse())
	}
	m.remove(r, tk)
}

// TestAnotherBoot: what was recorded in another boot is dead, with an unknown code, and a
// sandbox of that boot is made anew.
func TestAnotherBoot(t *testing.T) {
	m := newMachine(t)
	r, end := m.agent()
	tk := task("none", box("a", "exit", "0"), box("b", "pause"))
	image := m.pull(r)
	m.start(r, tk)
	m.exited(r, tk, "a")
	m.ok("kill", r.KillContainer(t.Context(), tk.ID, "b"))
	m.eventually("processes are gone", func() bool {
		leaves, err := r.cgroups.Processes(tk.ID)
		return err == nil && leaves.Total() == 0
	})
	end()
	m.config.Now = func() runtime.Time {
		now := runtime.Now()
		now.Boot = "another"
		return now
	}
	r, _ = m.agent()
	seen := m.look(r, tk)
	if seen.Sandbox.Ready {
		t.Error("a sandbox of another boot is said to be ready")
	}
	if c := seen.Containers["b"]; !c.Exited() || c.Exit.Code != nil {
		t.Errorf("container of another boot is %+v, want it exited with an unknown code", c)
	}
	if c := seen.Containers["a"]; !c.Exited() || c.Exit.Code == nil || *c.Exit.Code != 0 {
		t.Errorf("container that had ended before is %+v, want its code kept", c)
	}
	m.ok("create sandbox", r.CreateSandbox(t.Context(), tk))
	m.ok("create again", r.CreateContainer(t.Context(), tk, runtime.CreateConfig{Name: "b", Image: image}))
	if !m.look(r, tk).Sandbox.Ready {
		t.Error("sandbox is not ready after it was made anew")
	}
	m.remove(r, tk)
}

// TestHungShim: a shim that does not answer is an error, not a death, and does not hide
// the tasks beside it.
func TestHungShim(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	hung, well := task("none", box("a", "pause")), task("none", box("a", "pause"))
	m.start(r, hung)
	shim := m.daemon.Shims()[0]
	m.start(r, well)
	m.ok("stop the shim", unix.Kill(shim, unix.SIGSTOP))
	_, err := r.List(t.Context(), hung.ID)
	all, allErr := r.List(t.Context())
	m.ok("let the shim go on", unix.Kill(shim, unix.SIGCONT))
	if err == nil {
		t.Error("a task with a hung shim is observed without an error")
	}
	if allErr == nil || !strings.Contains(allErr.Error(), hung.ID) || len(all) != 1 || all[0].ID != well.ID {
		t.Errorf("list gives %d tasks and %v, want the well one, and an error that names the other", len(all), allErr)
	}
	m.eventually("it is seen again", func() bool {
		seen, err := r.List(t.Context(), hung.ID)
		return err == nil && seen[0].Containers["a"].Live()
	})
	m.remove(r, hung)
	m.remove(r, well)
}

// TestHungContainerd: calls end by their own deadline.
func TestHungContainerd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the ten seconds of a deadline")
	}
	m := newMachine(t)
	r, _ := m.agent()
	_, err := r.Ping(t.Context())
	m.ok("ping", err)
	m.daemon.Freeze()
	defer m.daemon.Thaw()
	began := time.Now()
	if _, err := r.Ping(t.Context()); err == nil {
		t.Error("a stopped containerd answers")
	}
	if d := time.Since(began); d > 2*defaultDeadline {
		t.Errorf("the call took %s, its deadline is %s", d, defaultDeadline)
	}
}

// TestOOM: the container that the kernel killed for memory says so, its neighbour does not.
func TestOOM(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	hog, calm := box("hog", "alloc", "200"), box("calm", "pause")
	hog.Memory = 32
	tk := task("none", hog, calm)
	m.start(r, tk)
	c := m.exited(r, tk, "hog")
	if !c.Exit.OOMKilled || c.OOMKills == 0 || c.Exit.Code == nil || *c.Exit.Code != 137 {
		t.Errorf("container over its memory: %+v, %+v", c, c.Exit)
	}
	if c := m.look(r, tk).Containers["calm"]; !c.Live() || c.OOMKills != 0 {
		t.Errorf("its neighbour: %+v", c)
	}
	// Its group has failed in systemd's eyes, and must not be in the way of the next run.
	m.ok("run it again", r.StartContainer(t.Context(), tk.ID, "hog"))
	if c := m.exited(r, tk, "hog"); !c.Exit.OOMKilled || c.OOMKills != 1 || c.Restarts != 1 {
		t.Errorf("container over its memory again: %+v, %+v", c, c.Exit)
	}
	// And what is killed by somebody else, later, is not said to be out of memory.
	m.ok("kill its neighbour", r.KillContainer(t.Context(), tk.ID, "calm"))
	if c := m.exited(r, tk, "calm"); c.Exit.OOMKilled || c.OOMKills != 0 {
		t.Errorf("its neighbour, killed by hand: %+v, %+v", c, c.Exit)
	}
	m.remove(r, tk)
}

// TestCrashBetweenCreateAndStart: a process that was made and not started is started by
// the next call, and counted neither as live nor as left over meanwhile.
func TestCrashBetweenCreateAndStart(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	tk := task("none", box("a", "pause"))
	image := m.pull(r)
	m.ok("create sandbox", r.CreateSandbox(t.Context(), tk))
	m.ok("create", r.CreateContainer(t.Context(), tk, runtime.CreateConfig{Name: "a", Image: image}))
	rec, err := r.find(t.Context(), tk.ID, "a")
	m.ok("find", err)
	made := r.c.Now()
	m.ok("create the process", r.createTask(t.Context(), rec))
	seen := m.look(r, tk)
	if c := seen.Containers["a"]; c.Live() || c.Exited() || seen.Processes != 0 {
		t.Errorf("half-started container is %+v with %d processes left over, want a created one", c, seen.Processes)
	}
	m.ok("start", r.StartContainer(t.Context(), tk.ID, "a"))
	if c := m.look(r, tk).Containers["a"]; !c.Live() || c.Restarts != 0 {
		t.Errorf("container after the second start is %+v", c)
	}
	// And one whose start was not written down is live all the same, since when it began.
	written := m.look(r, tk).Containers["a"].Started
	m.ok("forget the start", r.label(t.Context(), rec.ID, map[string]string{labelStarted: ""}))
	c := m.look(r, tk).Containers["a"]
	const tick = 20 * time.Millisecond // the kernel tells it in hundredths of a second
	if c.Started.At < made.At-tick || c.Started.At > written.At+tick || c.Started.Boot != made.Boot || !c.Live() {
		t.Errorf("container without a written start is %+v, want it live since between %v and %v", c, made, written)
	}
	m.remove(r, tk)

	// Half-made ones are removed like others.
	tk = task("none", box("a", "pause"))
	m.ok("create sandbox", r.CreateSandbox(t.Context(), tk))
	m.ok("create", r.CreateContainer(t.Context(), tk, runtime.CreateConfig{Name: "a", Image: image}))
	rec, err = r.find(t.Context(), tk.ID, "a")
	m.ok("find", err)
	m.ok("create the process", r.createTask(t.Context(), rec))
	m.remove(r, tk)
}
