package reconcile

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

func TestClaimOf(t *testing.T) {
	def := func(cpu, memory, reservation int, ports ...spec.PortMapping) spec.ContainerDefinition {
		return spec.ContainerDefinition{CPU: cpu, Memory: memory, MemoryReservation: reservation, PortMappings: ports}
	}
	for name, c := range map[string]struct {
		def  spec.TaskDefinition
		want Claim
	}{
		"sum of containers":   {spec.TaskDefinition{ContainerDefinitions: []spec.ContainerDefinition{def(256, 512, 0), def(128, 300, 100)}}, Claim{CPU: 384, Memory: 612}},
		"the task's own":      {spec.TaskDefinition{CPU: "1024", Memory: "2048", ContainerDefinitions: []spec.ContainerDefinition{def(256, 512, 0)}}, Claim{CPU: 1024, Memory: 2048}},
		"bridge ports":        {spec.TaskDefinition{NetworkMode: "bridge", ContainerDefinitions: []spec.ContainerDefinition{def(0, 1, 0, spec.PortMapping{ContainerPort: 80, HostPort: 8080}, spec.PortMapping{ContainerPort: 81}, spec.PortMapping{ContainerPort: 53, HostPort: 53, Protocol: "udp"})}}, Claim{Memory: 1, Ports: []string{"8080/tcp", "53/udp"}}},
		"host ports":          {spec.TaskDefinition{NetworkMode: "host", ContainerDefinitions: []spec.ContainerDefinition{def(0, 1, 0, spec.PortMapping{ContainerPort: 80}, spec.PortMapping{ContainerPortRange: "90-92"})}}, Claim{Memory: 1, Ports: []string{"80/tcp", "90/tcp", "91/tcp", "92/tcp"}}},
		"awsvpc has its own":  {spec.TaskDefinition{NetworkMode: "awsvpc", ContainerDefinitions: []spec.ContainerDefinition{def(0, 1, 0, spec.PortMapping{ContainerPort: 80, HostPort: 80})}}, Claim{Memory: 1}},
		"a range on a bridge": {spec.TaskDefinition{ContainerDefinitions: []spec.ContainerDefinition{def(0, 1, 0, spec.PortMapping{ContainerPortRange: "90-92"})}}, Claim{Memory: 1}},
	} {
		if got := ClaimOf(spec.Task{Definition: c.def}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: claim is %+v, want %+v", name, got, c.want)
		}
	}
}

func TestAdmit(t *testing.T) {
	host := Capacity{CPU: 2048, Memory: 2048, Reserved: []string{"22/tcp"}}
	held := []Claim{{Task: "1", Name: "web", CPU: 1024, Memory: 1200, Ports: []string{"80/tcp"}}, {Task: "2", Name: "db", CPU: 512}}
	for name, c := range map[string]struct {
		host  Capacity
		claim Claim
		want  string
	}{
		"fits":              {host, Claim{Task: "3", CPU: 512, Memory: 848, Ports: []string{"80/udp"}}, ""},
		"memory":            {host, Claim{Task: "3", Memory: 1360}, "needs 512 more MiB of memory: 1200 of 2048 are taken by db, web"},
		"CPU":               {host, Claim{Task: "3", CPU: 513}, "needs 1 more CPU units: 1536 of 2048 are taken by db, web"},
		"port":              {host, Claim{Task: "3", Ports: []string{"80/tcp"}}, "needs host port 80/tcp, which web holds"},
		"reserved port":     {host, Claim{Task: "3", Ports: []string{"22/tcp"}}, "needs host port 22/tcp, which is reserved on this host"},
		"never":             {host, Claim{Task: "3", Memory: 4096}, "needs 4096 MiB of memory, which can never fit: the host has 2048"},
		"all at once":       {host, Claim{Task: "3", CPU: 4096, Ports: []string{"80/tcp"}}, "needs 4096 CPU units, which can never fit: the host has 2048; needs host port 80/tcp, which web holds"},
		"itself":            {host, Claim{Task: "1", CPU: 1024, Memory: 1200, Ports: []string{"80/tcp"}}, ""},
		"without bound":     {Capacity{}, Claim{Task: "3", CPU: 1 << 20, Memory: 1 << 20}, ""},
		"nothing asked for": {Capacity{CPU: 1, Memory: 1}, Claim{Task: "3"}, ""},
	} {
		if got := Admit(c.host, held, c.claim); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestGarbage(t *testing.T) {
	now := runtime.Time{Boot: "b", At: 10 * time.Hour, Wall: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	ended := func(id, family string, ago time.Duration) End {
		return End{At: now.Add(-ago), Status: spec.TaskStatus{TaskID: id, Family: family}}
	}
	jumped := ended("jumped", "f", time.Minute)
	jumped.At.Wall = jumped.At.Wall.Add(-1000 * time.Hour)
	otherBoot := ended("other", "f", 4*time.Hour)
	otherBoot.At.Boot = "a"
	future := ended("future", "f", 0)
	future.At = runtime.Time{Boot: "a", Wall: now.Wall.Add(time.Hour)}
	for name, c := range map[string]struct {
		in   Inventory
		want Refuse
	}{
		"nobody spoke": {Inventory{Observed: []string{"x"}, Recorded: []string{"y"}}, Refuse{}},
		"strangers":    {Inventory{Heard: true, Known: map[string]bool{"k": true}, Observed: []string{"x", "k"}, Recorded: []string{"y", "x"}}, Refuse{Strangers: []string{"x", "y"}}},
		"unreadable":   {Inventory{Heard: true, Observed: []string{"x"}, Unreadable: map[string]bool{"x": true}}, Refuse{Spared: []string{"x"}}},
		"in its time":  {Inventory{Wait: 3 * time.Hour, Ends: []End{ended("old", "f", 3*time.Hour), ended("new", "f", 2*time.Hour)}}, Refuse{Forget: []string{"old"}}},
		"still there":  {Inventory{Wait: 3 * time.Hour, Observed: []string{"old"}, Ends: []End{ended("old", "f", 3*time.Hour)}}, Refuse{}},
		"clock jumped": {Inventory{Wait: 3 * time.Hour, Ends: []End{jumped}}, Refuse{}},
		"other boot":   {Inventory{Wait: 3 * time.Hour, Ends: []End{otherBoot, future}}, Refuse{Forget: []string{"other"}}},
		"too many":     {Inventory{Wait: 3 * time.Hour, Keep: 1, Ends: []End{ended("1", "f", 3), ended("2", "f", 2), ended("3", "g", 1)}}, Refuse{Forget: []string{"1"}}},
	} {
		c.in.Now = now
		if got := Garbage(c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestHealthOfATask(t *testing.T) {
	check := func(c *spec.ContainerDefinition) { c.HealthCheck = &spec.HealthCheck{} }
	task := newTask(ctr("a", "pause", check), ctr("b", "pause", check), ctr("c", "pause"), ctr("d", "pause", check, nonEssential))
	for _, c := range []struct{ a, b, d, want string }{
		{"", "", "", spec.HealthUnknown},
		{spec.HealthHealthy, "", "", spec.HealthUnknown},
		{"", spec.HealthHealthy, "", spec.HealthUnknown},
		{spec.HealthHealthy, spec.HealthHealthy, spec.HealthUnhealthy, spec.HealthHealthy},
		{spec.HealthUnhealthy, spec.HealthUnknown, "", spec.HealthUnhealthy},
		{spec.HealthUnknown, spec.HealthUnhealthy, "", spec.HealthUnhealthy},
	} {
		have := Observed{Health: map[string]Health{"a": {Status: c.a}, "b": {Status: c.b}, "d": {Status: c.d}}}
		if got := Status(task, have).HealthStatus; got != c.want {
			t.Errorf("health of (%s, %s, not essential %s) is %s, want %s", c.a, c.b, c.d, got, c.want)
		}
	}
	bare := newTask(ctr("c", "pause"), ctr("d", "pause", check, nonEssential))
	if got := Status(bare, Observed{Health: map[string]Health{"d": {Status: spec.HealthHealthy}}}).HealthStatus; got != spec.HealthUnknown {
		t.Errorf("health without an essential check is %s", got)
	}
}

func TestPinned(t *testing.T) {
	const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for in, want := range map[string]string{
		"nginx":                       "nginx@" + digest,
		"nginx:1.27":                  "nginx@" + digest,
		"localhost:5000/team/app:v1":  "localhost:5000/team/app@" + digest,
		"nginx@sha256:bb":             "nginx@sha256:bb",
		"oci-archive:/var/images/app": "oci-archive:/var/images/app",
		"NOT A REFERENCE":             "NOT A REFERENCE",
	} {
		if got := pinned(in, digest); got != want {
			t.Errorf("%s pinned is %s, want %s", in, got, want)
		}
	}
	if got := pinned("nginx:1", ""); got != "nginx:1" {
		t.Errorf("without a digest it became %s", got)
	}
}

func TestBackOff(t *testing.T) {
	b, key := newBackoff(), actionKey{task: "t"}
	if d := b.When(key); d != 0 {
		t.Errorf("after the first failure it waits %s, want to try again at once", d)
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		want *= time.Second
		if d := b.When(key); d < want*8/10 || d > want*12/10 {
			t.Errorf("failure %d: waits %s, want about %s", i+2, d, want)
		}
	}
	if d := b.When(actionKey{task: "u"}); d != 0 {
		t.Errorf("another one's first failure waits %s", d)
	}
	b.Forget(key)
	if d := b.When(key); d != 0 || b.NumRequeues(key) != 1 {
		t.Errorf("forgotten, it waits %s", d)
	}
}

// A task whose definition names what it cannot know is not planned into a wall.
func TestPlanOfAnEmptyTaskEnds(t *testing.T) {
	s := Plan(spec.Task{DesiredStatus: spec.StatusRunning}, Observed{Admitted: true}, runtime.Time{})
	if len(s.Actions) != 0 {
		t.Errorf("plan of a task without containers: %s", show(s))
	}
	if st := Status(spec.Task{DesiredStatus: spec.StatusRunning}, Observed{}); st.LastStatus != spec.StatusStopped || !strings.Contains(st.StoppedReason, "exited") {
		t.Errorf("status of a task without containers: %+v", st)
	}
}
