package cgroup

import (
	"bufio"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func ptr[T any](v T) *T { return &v }

var limits = &specs.LinuxResources{
	CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000))},
	Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(96 << 20)), Reservation: ptr(int64(32 << 20))},
	Pids:   &specs.LinuxPids{Limit: ptr(int64(100))},
}

func TestLayouts(t *testing.T) {
	hybrid := `30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`
	unified := "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	for what, c := range map[string]struct {
		mounts  string
		systemd bool
		want    Mode
		dirs    int // of a task
	}{
		"v1 with an empty unified tree": {hybrid, false, V1, 4},
		"the same under systemd":        {hybrid, true, V1, 4},
		"v2":                            {unified, false, V2, 1},
		"v2 under systemd":              {unified, true, V2Systemd, 1},
	} {
		found, err := parseMountinfo(bufio.NewScanner(strings.NewReader(c.mounts)))
		if err != nil {
			t.Fatal(err)
		}
		tree, err := newTree("/ecs", found, c.systemd)
		if err != nil || tree.Mode() != c.want {
			t.Errorf("%s: mode %v, %v; want %v", what, tree.Mode(), err, c.want)
			continue
		}
		if dirs := tree.dirs("0123"); len(dirs) != c.dirs {
			t.Errorf("%s: a task has directories %q, want %d", what, dirs, c.dirs)
		}
	}
	if _, err := newTree("/", map[string]string{"unified": "/x"}, false); err == nil {
		t.Error("the root group was taken for a parent")
	}
	if _, err := newTree("/ecs", nil, false); err == nil {
		t.Error("a machine without cgroups was accepted")
	}
}

// TestSlices: under systemd the parent decides the slices' names, so that the tasks of
// several agents on one machine are told apart.
func TestSlices(t *testing.T) {
	mount := t.TempDir()
	for parent, want := range map[string]string{
		"/ecs":        "ecstasks.slice/ecstasks-0123.slice",
		"/ecs-b/node": "ecstasks_ecs_b_node.slice/ecstasks_ecs_b_node-0123.slice",
	} {
		tree, err := newTree(parent, map[string]string{"unified": mount}, true)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(mount, want)
		if dirs := tree.dirs("0123"); !slices.Equal(dirs, []string{dir}) {
			t.Errorf("parent %s: directories %q, want %s", parent, dirs, dir)
		}
		if got := taskOf(filepath.Base(want)); got != "0123" {
			t.Errorf("the task of %s is %q", want, got)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, parent := range []string{"/ecs", "/ecs-b/node"} {
		tree, err := newTree(parent, map[string]string{"unified": mount}, true)
		if err != nil {
			t.Fatal(err)
		}
		if ids, err := tree.Tasks(); err != nil || !slices.Equal(ids, []string{"0123"}) {
			t.Errorf("parent %s: tasks %q, %v; want only its own", parent, ids, err)
		}
	}
}

// TestNoTaskIsTheParent: an id that is none must never lead to the parent, or out of it.
func TestNoTaskIsTheParent(t *testing.T) {
	tree, err := newTree("/ecs", map[string]string{"unified": t.TempDir()}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", ".", "..", "a/b", "../x"} {
		if dirs := tree.dirs(id); dirs != nil {
			t.Errorf("%q has directories %q", id, dirs)
		}
		if err := tree.Create(t.Context(), id, nil); err == nil {
			t.Errorf("a group was made for %q", id)
		}
	}
	for _, leaf := range []string{"", ".", "..", "a/b"} {
		if err := tree.RemoveLeaf("0123", leaf); err == nil {
			t.Errorf("leaf %q was removed", leaf)
		}
	}
}

func TestLeaf(t *testing.T) {
	for path, want := range map[string]string{"/ecs/0123/web": "web", "ecstasks-0123.slice:ecsd:0123-0": "ecsd-0123-0.scope"} {
		if got := Leaf(path); got != want {
			t.Errorf("leaf of %s is %s, want %s", path, got, want)
		}
	}
}

func TestSettings(t *testing.T) {
	text := func(list []setting) string {
		var lines []string
		for _, s := range list {
			lines = append(lines, s.file+"="+s.value)
		}
		return strings.Join(lines, " ")
	}
	for what, c := range map[string]struct {
		r      *specs.LinuxResources
		v1, v2 string
	}{
		"all": {limits,
			"cpu.shares=512 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=100663296 memory.soft_limit_in_bytes=33554432 pids.max=100",
			"cpu.weight=20 cpu.max=50000 100000 memory.max=67108864 memory.swap.max=33554432 memory.low=33554432 pids.max=100"},
		"none": {&specs.LinuxResources{}, "", ""},
		"without limit": {&specs.LinuxResources{
			CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}, Memory: &specs.LinuxMemory{Limit: ptr(int64(-1)), Swap: ptr(int64(-1))}, Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}},
			"cpu.cfs_quota_us=-1 memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1 pids.max=max",
			"cpu.max=max 100000 memory.max=max memory.swap.max=max pids.max=max"},
	} {
		if got := text(settingsV1(c.r)); got != c.v1 {
			t.Errorf("%s, v1:\n%s\nwant\n%s", what, got, c.v1)
		}
		if got := text(settingsV2(c.r)); got != c.v2 {
			t.Errorf("%s, v2:\n%s\nwant\n%s", what, got, c.v2)
		}
	}
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 39, 262144: 10000, math.MaxUint64: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight of %d shares is %d, want %d", shares, got, want)
		}
	}
}

func TestSystemdProperties(t *testing.T) {
	got := map[string]any{}
	for _, p := range limitProperties(limits) {
		got[p.Name] = p.Value.Value()
	}
	want := map[string]any{
		"CPUWeight": uint64(20), "CPUQuotaPerSecUSec": uint64(500000), "CPUQuotaPeriodUSec": uint64(100000), "MemoryMax": uint64(64 << 20),
		"MemorySwapMax": uint64(32 << 20), "MemoryLow": uint64(32 << 20), "TasksMax": uint64(100),
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s is %v, want %v", name, got[name], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("properties are %v, want %v", got, want)
	}
	for quota, want := range map[int64]uint64{12500: 130000, 12000: 120000, 1: 10000, 250000: 2500000} {
		for _, p := range limitProperties(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: ptr(uint64(100000))}}) {
			if p.Name == "CPUQuotaPerSecUSec" && p.Value.Value() != want {
				t.Errorf("quota %d of 100000 µs is %v a second, want %d: whole percents, never less", quota, p.Value, want)
			}
		}
	}
	for _, p := range limitProperties(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(0))}}) {
		if p.Value.Value() != uint64(math.MaxUint64) {
			t.Errorf("%s is %v, want no limit", p.Name, p.Value)
		}
	}
}

// fakeV2 is a directory that looks like a v2 group with these files.
func fakeV2(t *testing.T, task string, files map[string]string) *Tree {
	t.Helper()
	mount := t.TempDir()
	for name, content := range files {
		file := filepath.Join(mount, "ecs", task, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := newTree("/ecs", map[string]string{"unified": mount}, false)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestFiguresV2(t *testing.T) {
	tree := fakeV2(t, "0123", map[string]string{
		"web/cgroup.procs":     "7\n8\n",
		"web/sub/cgroup.procs": "9\n",
		"cgroup.procs":         "",
		"memory.events":        "oom 2\noom_kill 5\n",
		"web/cpu.stat":         "usage_usec 1500\nuser_usec 1000\nnr_periods 5\nnr_throttled 2\nthrottled_usec 300\n",
		"web/memory.current":   "5000\n",
		"web/memory.stat":      "anon 3000\nfile 2000\ninactive_file 1200\n",
		"web/memory.max":       "max\n",
		"web/memory.events":    "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n",
		"web/pids.current":     "3\n",
		"web/io.stat":          "259:0 rbytes=10 wbytes=20 rios=1\n8:0 rbytes=1 wbytes=2\n",
	})
	s, err := tree.Stats("0123", "web")
	if err != nil {
		t.Fatal(err)
	}
	if s.CPUUsage != 1500*time.Microsecond || s.CPUPeriods != 5 || s.CPUThrottledPeriods != 2 || s.CPUThrottled != 300*time.Microsecond ||
		s.MemoryUsage != 5000 || s.MemoryRSS != 3000 || s.MemoryWorkingSet != 3800 || s.MemoryLimit != 0 ||
		s.OOMKills != 2 || s.Processes != 3 || s.ReadBytes != 11 || s.WriteBytes != 22 {
		t.Errorf("figures are %+v", s)
	}
	if n, err := tree.TaskOOMKills("0123"); n != 5 || err != nil {
		t.Errorf("OOM kills of the task: %d, %v; want 5", n, err)
	}
	if n, err := tree.TaskOOMKills("4567"); n != 0 || err != nil {
		t.Errorf("OOM kills of an absent task: %d, %v", n, err)
	}
	leaves, err := tree.Processes("0123")
	if err != nil || leaves.Total() != 3 || !slices.Equal(leaves["web"], []int{7, 8, 9}) {
		t.Errorf("processes are %v, %v", leaves, err)
	}
	if none, err := tree.Stats("0123", "nobody"); err != nil || none.CPUUsage != 0 {
		t.Errorf("figures of an absent group: %+v, %v", none, err)
	}
	if n, err := tree.OOMKills("4567", "web"); n != 0 || err != nil {
		t.Errorf("OOM kills of an absent group: %d, %v", n, err)
	}
	if leaves, err := tree.Processes("4567"); err != nil || leaves.Total() != 0 {
		t.Errorf("processes of an absent task: %v, %v", leaves, err)
	}
}

// TestRealGroups makes, limits, fills, kills and removes a group of this machine.
func TestRealGroups(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must run this test as root")
		}
		t.Skip("SKIPPED: needs root, to make control groups")
	}
	parent := "/ecsdtest-" + strconv.Itoa(os.Getpid())
	tree, err := Detect(parent)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("cgroups are %s", tree.Mode())
	ctx, task := t.Context(), "00112233445566778899aabbccddeeff"
	t.Cleanup(func() {
		for _, mount := range tree.hierarchies {
			_ = removeTree(filepath.Join(mount, parent))
		}
	})
	for range 2 {
		if err := tree.Create(ctx, task, limits); err != nil {
			t.Fatal(err)
		}
	}
	if !tree.Exists(task) {
		t.Fatal("the group was made and is not there")
	}
	if ids, err := tree.Tasks(); err != nil || !slices.Contains(ids, task) {
		t.Errorf("tasks with a group: %v, %v", ids, err)
	}
	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan struct{})
	go func() { _ = sleeper.Wait(); close(dead) }()
	t.Cleanup(func() { _ = sleeper.Process.Kill(); <-dead })
	for _, dir := range tree.dirs(task) {
		if tree.Mode() == V2Systemd { // systemd does so itself for a scope, which the OCI runtime asks for
			if err := passControllers(dir); err != nil {
				t.Fatal(err)
			}
		}
		leaf := filepath.Join(dir, "web")
		if strings.Contains(dir, "/cpuset/") {
			if err := makeCpuset(tree.hierarchies["cpuset"], leaf); err != nil {
				t.Fatal(err)
			}
		} else if err := os.MkdirAll(leaf, 0o755); err != nil {
			continue // a hierarchy without controllers that this test does not fill
		}
		if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(strconv.Itoa(sleeper.Process.Pid)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	leaves, err := tree.Processes(task)
	if err != nil || !slices.Equal(leaves["web"], []int{sleeper.Process.Pid}) {
		t.Errorf("processes are %v, %v; want %d in web", leaves, err, sleeper.Process.Pid)
	}
	if s, err := tree.Stats(task, "web"); err != nil || s.Processes != 1 {
		t.Errorf("figures are %+v, %v; want one process", s, err)
	}
	var busy *BusyError
	if err := tree.Remove(ctx, task); !errors.As(err, &busy) || busy.Processes != 1 {
		t.Errorf("removal of a group with a process: %v", err)
	}
	if err := tree.Kill(task, "web"); err != nil {
		t.Errorf("kill: %v", err)
	}
	select {
	case <-dead:
	case <-time.After(10 * time.Second):
		t.Fatal("the process lives on")
	}
	for range 2 {
		if err := tree.Remove(ctx, task); err != nil {
			t.Fatalf("remove: %v", err)
		}
	}
	for _, dir := range tree.dirs(task) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}
