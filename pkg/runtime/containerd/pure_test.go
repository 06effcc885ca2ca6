package containerd

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"ecsd/pkg/runtime"
	"ecsd/pkg/runtime/containerd/network"
	"ecsd/pkg/spec"
)

func moment(at time.Duration) runtime.Time {
	return runtime.Time{Boot: "boot", At: at, Wall: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(at)}
}

// TestAnnotate: a scope of systemd's must not outlive its container, a path has none.
func TestAnnotate(t *testing.T) {
	task := spec.Task{ID: strings.Repeat("0", 32)}
	for path, want := range map[string]string{
		spec.TaskCgroup(task.ID, spec.Host{}) + "/web":                                                           "",
		spec.TaskCgroup(task.ID, spec.Host{SystemdCgroup: true}) + ":ecsd:" + task.ID + "-0":                     "'inactive-or-failed'",
		spec.TaskCgroup(task.ID, spec.Host{SystemdCgroup: true, CgroupParent: "/b"}) + ":ecsd:" + task.ID + "-0": "'inactive-or-failed'",
	} {
		s := &specs.Spec{Linux: &specs.Linux{CgroupsPath: path}}
		annotate(s, task.ID)
		if got := s.Annotations["org.systemd.property.CollectMode"]; got != want || s.Annotations[groupAnnotation] != task.ID {
			t.Errorf("%s: annotations %v, want CollectMode %q and the task", path, s.Annotations, want)
		}
	}
}

// TestBlame: OOM kills that no group tells of any more are of the container that ended.
func TestBlame(t *testing.T) {
	ended := func(code, kills int) runtime.Container {
		return runtime.Container{Started: moment(1), Exit: &runtime.Exit{Code: &code, At: moment(2)}, OOMKills: kills}
	}
	for what, c := range map[string]struct {
		c     runtime.Container
		lost  int
		kills int
		oom   bool
	}{
		"nothing is lost":                 {ended(137, 0), 0, 0, false},
		"the kernel killed it":            {ended(137, 0), 2, 2, true},
		"the kernel killed a child of it": {ended(1, 0), 1, 1, false},
		"its own group still tells":       {ended(137, 1), 1, 1, false}, // observe has judged it
		"more is known than counted":      {ended(137, 0), -1, 0, false},
		"it runs":                         {runtime.Container{Started: moment(1)}, 1, 0, false},
	} {
		got := blame(c.c, c.lost)
		if got.OOMKills != c.kills || got.Exited() && got.Exit.OOMKilled != c.oom {
			t.Errorf("%s: %d kills, exit %+v; want %d, %v", what, got.OOMKills, got.Exit, c.kills, c.oom)
		}
		if c.c.Exited() && c.c.Exit.OOMKilled {
			t.Errorf("%s: the argument was changed", what)
		}
	}
	if n := oomKillsBefore("2", ended(137, 1), moment(9)); n != 3 {
		t.Errorf("kills before the next run are %d, want 3", n)
	}
	rebooted := moment(9)
	rebooted.Boot = "another"
	if n := oomKillsBefore("2", ended(137, 1), rebooted); n != 0 {
		t.Errorf("kills before the next run after a reboot are %d, want 0", n)
	}
}

// TestObserve is the table of observe's comment.
func TestObserve(t *testing.T) {
	now, code := moment(time.Hour), 3
	started := runtime.Container{Name: "a", Created: moment(1), Started: moment(2)}
	created := runtime.Container{Name: "a", Created: moment(1)}
	exited := started
	exited.Exit = &runtime.Exit{Code: &code, At: moment(3)}
	oldBoot := started
	oldBoot.Started.Boot = "before"
	stopped := process{phase: phaseStopped, exit: runtime.Exit{Code: &code, At: moment(9)}}
	for what, c := range map[string]struct {
		written runtime.Container
		p       process
		is      string // created, live, exited
		code    *int
		record  bool
	}{
		"created, no task":         {created, process{}, "created", nil, false},
		"created, task created":    {created, process{phase: phaseCreated, pid: 4}, "created", nil, false},
		"created, running":         {created, process{phase: phaseRunning, pid: 4, started: moment(5)}, "live", nil, false},
		"created, stopped":         {created, stopped, "exited", &code, true},
		"started, running":         {started, process{phase: phaseRunning, pid: 4}, "live", nil, false},
		"started, stopped":         {started, stopped, "exited", &code, true},
		"started, lost":            {started, process{}, "exited", nil, true},
		"started, of another boot": {oldBoot, process{}, "exited", nil, true},
		"exited, no task":          {exited, process{}, "exited", &code, false},
		"exited, stopped":          {exited, stopped, "exited", &code, false},
	} {
		got, record := observe(c.written, c.p, now)
		is := "created"
		switch {
		case got.Live() && got.Exited():
			is = "live and exited"
		case got.Live():
			is = "live"
		case got.Exited():
			is = "exited"
		}
		if is != c.is || record != c.record {
			t.Errorf("%s: is %s (record %v), want %s (record %v)", what, is, record, c.is, c.record)
		}
		if got.Exit != nil && got.Exit.Code != c.code {
			t.Errorf("%s: code %v, want %v", what, got.Exit.Code, c.code)
		}
		if is == "live" && (got.PID != 4 || got.Started.IsZero()) {
			t.Errorf("%s: live without process or start: %+v", what, got)
		}
		if is == "exited" && (got.Exit.At.IsZero() || got.Started.IsZero()) {
			t.Errorf("%s: without a time: %+v", what, got)
		}
	}
}

func TestLabelsKeepWhatTheySay(t *testing.T) {
	code := 137
	want := runtime.Container{
		Name: "web", ID: "x-0", SpecHash: "h", ImageDigest: "sha256:d", Restarts: 3, OOMKills: 2,
		Created: trim(moment(1)), Started: trim(moment(2)), StopSignaled: trim(moment(3)),
		Exit: &runtime.Exit{Code: &code, At: trim(moment(4)), OOMKilled: true},
	}
	got := recorded(containers.Container{ID: "x-0", Labels: map[string]string{
		labelName: "web", labelSpecHash: "h", labelDigest: "sha256:d", labelRestarts: "3",
		labelCreated: encodeTime(moment(1)), labelStarted: encodeTime(moment(2)), labelStopSignaled: encodeTime(moment(3)),
		labelExit: encodeExit(runtime.Exit{Code: &code, At: moment(4), OOMKilled: true}, 2),
	}})
	if *got.Exit.Code != code || got.Exit.At != want.Exit.At || !got.Exit.OOMKilled {
		t.Errorf("exit is %+v, want %+v", got.Exit, want.Exit)
	}
	got.Exit, want.Exit = nil, nil
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	unknown := recorded(containers.Container{Labels: map[string]string{labelExit: encodeExit(runtime.Exit{At: moment(4)}, 0)}})
	if unknown.Exit == nil || unknown.Exit.Code != nil {
		t.Errorf("an unknown code reads back as %+v", unknown.Exit)
	}
	broken := recorded(containers.Container{Labels: map[string]string{labelExit: "{", labelStarted: "x", labelRestarts: "many"}})
	if broken.Exited() || broken.Live() || broken.Restarts != 0 {
		t.Errorf("labels that cannot be read say %+v", broken)
	}
}

func TestDockerLabels(t *testing.T) {
	labels := map[string]string{labelTask: "mine", labelARN: "mine"}
	skipped := addDockerLabels(labels, map[string]string{
		"plain": "v", labelTask: "theirs", labelARN: "theirs", "ecsd/x": "v", "containerd.io/gc.root": "v",
		"long": strings.Repeat("x", maxLabel), "fits": strings.Repeat("x", maxLabel-4),
	})
	slices.Sort(skipped)
	if want := []string{labelARN, "containerd.io/gc.root", labelTask, "ecsd/x", "long"}; !slices.Equal(skipped, want) {
		t.Errorf("left out %q, want %q", skipped, want)
	}
	if labels[labelTask] != "mine" || labels["plain"] != "v" || labels["fits"] == "" {
		t.Errorf("labels are %v", labels)
	}
}

// TestExitTimes: containerd's wall time becomes a moment that lies within the run, whatever
// was done to the wall clock.
func TestExitTimes(t *testing.T) {
	now, started := moment(time.Hour), moment(30*time.Minute)
	for what, c := range map[string]struct {
		wall time.Time
		want time.Duration
	}{
		"as it is":                        {now.Wall.Add(-10 * time.Minute), 50 * time.Minute},
		"the clock was put back since":    {now.Wall.Add(time.Hour), time.Hour},
		"the clock was put forward since": {now.Wall.Add(-48 * time.Hour), 30 * time.Minute},
		"not told":                        {time.Time{}, time.Hour},
		"zero of the other kind":          {time.Unix(0, 0), time.Hour},
	} {
		if got := at(c.wall, now, started); got.At != c.want || got.Boot != now.Boot {
			t.Errorf("%s: %v, want %v", what, got.At, c.want)
		}
	}
	if got := at(now.Wall.Add(-2*time.Hour), now, runtime.Time{}); got.At < 0 {
		t.Errorf("before the boot: %v", got.At)
	}
}

func TestTaskIDs(t *testing.T) {
	id := strings.Repeat("0a", 16)
	for s, want := range map[string]string{
		id + "-0": id, id + "-init": id, id: "", "x-0": "", strings.ToUpper(id) + "-0": "", "../../" + id[6:] + "-0": "", "": "",
	} {
		if got := taskOf(s); got != want {
			t.Errorf("task of %q is %q, want %q", s, got, want)
		}
	}
}

func TestReferences(t *testing.T) {
	d := "sha256:" + strings.Repeat("a", 64)
	for ref, want := range map[string]imageRef{
		"nginx":               {name: "docker.io/library/nginx:latest", registry: "docker.io"},
		"me/app:v1":           {name: "docker.io/me/app:v1", registry: "docker.io"},
		"localhost:5000/a":    {name: "localhost:5000/a:latest", registry: "localhost:5000"},
		"reg.io/a/b:v@" + d:   {name: "reg.io/a/b:v@" + d, registry: "reg.io", digest: digestOf(d), untagged: "reg.io/a/b:v"},
		"reg.io/a@" + d:       {name: "reg.io/a@" + d, registry: "reg.io", digest: digestOf(d)},
		"oci-archive:/a/../b": {name: "oci-archive:/b", archive: "/b", untagged: "oci-archive:/b"},
		"oci-archive:/b@" + d: {name: "oci-archive:/b@" + d, archive: "/b", digest: digestOf(d), untagged: "oci-archive:/b"},
	} {
		if got, err := parseRef(ref); err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", ref, got, err, want)
		}
	}
	for _, ref := range []string{"", "UPPER", "a b", "oci-archive:rel", "oci-archive:/x@sha256:short", "reg.io/a@sha256:short"} {
		if got, err := parseRef(ref); err == nil {
			t.Errorf("%q is read as %+v", ref, got)
		}
	}
}

func TestStopSignals(t *testing.T) {
	for name, want := range map[string]syscall.Signal{
		"": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT, "QUIT": syscall.SIGQUIT, "3": syscall.SIGQUIT, "SIGRTMIN+3": 37,
	} {
		if got, err := stopSignal(name); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", name, got, err, want)
		}
	}
	if got, err := stopSignal("SIGNOTHING"); err == nil || got != syscall.SIGTERM {
		t.Errorf("an unknown signal is %v, %v; want SIGTERM and an error", got, err)
	}
}

func TestFileNames(t *testing.T) {
	long := strings.Repeat("x", 255)
	for _, name := range []string{"web", "a.b", "A_b-9"} {
		if got := fileName(name); got != name {
			t.Errorf("%q becomes %q", name, got)
		}
	}
	seen := map[string]string{}
	for _, name := range []string{long, long[:254] + "y", "../x", "..", "a/b", "a_b", ""} {
		got := fileName(name)
		if got == "" || len(got) > maxFileName+9 || strings.Contains(got, "/") || strings.Trim(got, ".") == "" {
			t.Errorf("%q becomes %q, which is no file name", name, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q both become %q", name, other, got)
		}
		seen[got] = name
	}
}

func TestHostsFile(t *testing.T) {
	ip, db := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	c := spec.ContainerDefinition{
		Links:      []string{"db:database", "cache"},
		ExtraHosts: []spec.HostEntry{{Hostname: "else", IPAddress: "192.0.2.1"}},
	}
	own := string(hostsFile(nil, "web", []netip.Addr{ip}, c, map[string][]netip.Addr{"db": {db}}))
	for _, line := range []string{"127.0.0.1\tlocalhost\n", "10.0.0.2\tweb\n", "10.0.0.3\tdatabase db\n", "192.0.2.1\telse\n"} {
		if !strings.Contains(own, line) {
			t.Errorf("no line %q in:\n%s", line, own)
		}
	}
	if strings.Contains(own, "cache") {
		t.Errorf("a link without an address is there:\n%s", own)
	}
	host := string(hostsFile([]byte("10.9.9.9 host"), "web", nil, c, nil))
	if !strings.HasPrefix(host, "10.9.9.9 host\n") || !strings.Contains(host, "192.0.2.1\telse\n") || strings.Contains(host, "\tlocalhost\n") {
		t.Errorf("on the host's network:\n%s", host)
	}
}

func TestResolvConf(t *testing.T) {
	host := []byte("# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch lan\noptions edns0\n")
	for what, c := range map[string]struct {
		def  spec.ContainerDefinition
		own  bool
		want string
	}{
		"own network":  {spec.ContainerDefinition{}, true, "nameserver 192.0.2.53\nsearch lan\noptions edns0\n"},
		"host network": {spec.ContainerDefinition{}, false, "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch lan\noptions edns0\n"},
		"given": {spec.ContainerDefinition{DNSServers: []string{"192.0.2.1", "192.0.2.2"}, DNSSearchDomains: []string{"a", "b"}}, true,
			"options edns0\nsearch a b\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"},
	} {
		if got := string(resolvConf(host, c.def, c.own)); got != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", what, got, c.want)
		}
	}
	if !onlyLoopback([]byte("nameserver 127.0.0.53\n")) || onlyLoopback(host) || !onlyLoopback(nil) {
		t.Error("onlyLoopback does not tell a reachable server from others")
	}
}

func TestAttachRequests(t *testing.T) {
	off := true
	web := box("web")
	web.PortMappings = []spec.PortMapping{{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}, {ContainerPortRange: "90-99", Protocol: "udp"}}
	alone := box("alone")
	alone.DisableNetworking = &off
	for mode, want := range map[string]func(tk spec.Task) map[string]network.Request{
		"host": func(spec.Task) map[string]network.Request { return map[string]network.Request{} },
		"awsvpc": func(tk spec.Task) map[string]network.Request {
			return map[string]network.Request{"": {ID: tk.ID}}
		},
		"none": func(tk spec.Task) map[string]network.Request {
			return map[string]network.Request{"web": {ID: tk.ID + "-0", Loopback: true}, "alone": {ID: tk.ID + "-1", Loopback: true}}
		},
		"": func(tk spec.Task) map[string]network.Request {
			return map[string]network.Request{
				"web": {ID: tk.ID + "-0", Ports: []network.PortRequest{
					{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}, {Range: "90-99", Protocol: "udp"},
				}},
				"alone": {ID: tk.ID + "-1", Loopback: true},
			}
		},
	} {
		tk := task(mode, web, alone)
		got, want := attachRequests(tk), want(tk)
		if len(got) != len(want) {
			t.Errorf("mode %q: %+v, want %+v", mode, got, want)
		}
		for name, w := range want {
			g := got[name]
			if g.ID != w.ID || g.Loopback != w.Loopback || !slices.Equal(g.Ports, w.Ports) {
				t.Errorf("mode %q, container %q: %+v, want %+v", mode, name, g, w)
			}
		}
	}
}

func TestNetDev(t *testing.T) {
	var s runtime.Stats
	addNetDev(&s, `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     999       9    9    9    0     0          0         0      999       9    9    9    0     0       0          0
  eth0:     100       1    2    3    0     0          0         0      200       4    5    6    0     0       0          0
  eth1:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0
`)
	if want := (runtime.Stats{RxBytes: 110, RxErrors: 2, RxDropped: 3, TxBytes: 220, TxErrors: 5, TxDropped: 6}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestBoundedBuffer(t *testing.T) {
	b := &boundedBuffer{limit: 5}
	for _, s := range []string{"abc", "defgh", "i"} {
		if n, _ := b.ReadFrom(strings.NewReader(s)); n != int64(len(s)) {
			t.Errorf("%d of %d bytes were read: a command would block", n, len(s))
		}
	}
	if b.String() != "abcde" {
		t.Errorf("kept %q, want the first five", b.String())
	}
}

func TestConfigIsChecked(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"DataDir":      func(c *Config) { c.DataDir = "relative" },
		"LogBinary":    func(c *Config) { c.LogBinary = "ecsd-log" },
		"PullBehavior": func(c *Config) { c.PullBehavior = "sometimes" },
		"OCI runtime":  func(c *Config) { c.RuntimeBinary = "/no/such/runc" },
	} {
		c := Config{RuntimeBinary: "/bin/sh"}.withDefaults()
		if err := c.check(); err != nil {
			t.Fatalf("the default configuration: %v", err)
		}
		change(&c)
		if err := c.check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v, want an error that names it", what, err)
		}
	}
}

func TestOperations(t *testing.T) {
	for method, want := range map[string]string{
		"/containerd.services.tasks.v1.Tasks/Create": "tasks.Create",
		"/grpc.health.v1.Health/Check":               "health.Check",
	} {
		if got := operation(method); got != want {
			t.Errorf("%s is %q, want %q", method, got, want)
		}
	}
}
