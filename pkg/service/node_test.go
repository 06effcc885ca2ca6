package service

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// node is a machine in memory under testing/synctest: its tasks live on when the agent
// does not. It judges what it is told: a live task is never dropped, a stopped one never
// comes back, no two live ones share a slot, and nobody is stopped while a port leads to him.
type node struct {
	t   *testing.T
	dir string

	mu      sync.Mutex
	tasks   map[string]*simulated
	agent   *Services // nil: none runs
	cancel  context.CancelFunc
	ended   chan struct{}
	sets    int
	ports   map[string][]runtime.ServicePort
	broken  bool     // the balancer takes nothing
	terse   bool     // a refusal is told among what a task waits for only
	trail   []string // what happened, in order
	events  []spec.Event
	made    int
	records *reconcile.Records // of the agent, which end tasks even when it does not run

	hookMu sync.Mutex        // guards hook
	hook   func(what string) // called where the agent's state can be looked at
}

// simulated is a task on the node.
type simulated struct {
	want   spec.Task
	status spec.TaskStatus
	addr   string
	asked  bool

	blocked bool // the host has no room for it
	dropped bool // a set has left it out
}

func newNode(t *testing.T) *node {
	return &node{t: t, dir: t.TempDir(), tasks: map[string]*simulated{}, ports: map[string][]runtime.ServicePort{}}
}

var began = time.Now()

// clock follows time.Now, which synctest lets stand still.
func clock() spec.Time {
	now := time.Now()
	return spec.Time{Boot: "boot", At: 1000*time.Hour + now.Sub(began), Wall: now}
}

func (n *node) config() Config {
	var err error
	if n.records, err = reconcile.OpenRecords(n.dir, clock); err != nil {
		n.t.Fatal(err)
	}
	return Config{Dir: n.dir, Records: hooked{n.records, n}, Balancer: n, Now: clock, Event: n.event}
}

// hooked shows the moments around each write of a task.json.
type hooked struct {
	*reconcile.Records
	n *node
}

func (h hooked) SaveTask(t spec.Task) error {
	h.n.call("before " + t.ID)
	defer h.n.call("after " + t.ID)
	return h.Records.SaveTask(t)
}

func (n *node) call(what string) {
	n.hookMu.Lock() // tasks are written side by side
	defer n.hookMu.Unlock()
	if n.hook != nil {
		n.hook(what)
	}
}

// listen makes hook the one that is called; nil: nobody is.
func (n *node) listen(hook func(what string)) {
	n.hookMu.Lock()
	defer n.hookMu.Unlock()
	n.hook = hook
}

func (n *node) event(e spec.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	n.log("event %s", e.Message)
}

func (n *node) log(format string, args ...any) {
	n.trail = append(n.trail, fmt.Sprintf(format, args...))
}

// start starts an agent on the node.
func (n *node) start(desired ...Desired) *Services {
	return n.startWith(n.config(), desired...)
}

func (n *node) startWith(c Config, desired ...Desired) *Services {
	n.t.Helper()
	s, err := New(c)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(n.t.Context())
	ended := make(chan struct{})
	n.mu.Lock()
	n.agent, n.cancel, n.ended = s, cancel, ended
	n.mu.Unlock()
	if desired != nil {
		s.Set(desired)
	}
	first := true
	go func() {
		defer close(ended)
		err := s.Run(ctx, func(tasks []spec.Task) {
			if ctx.Err() == nil {
				n.set(s, tasks, first)
				first = false
			}
		})
		if err != nil {
			n.t.Errorf("Run: %v", err)
		}
	}()
	return s
}

// stop ends the agent; the tasks go on.
func (n *node) stop() {
	n.mu.Lock()
	cancel, ended := n.cancel, n.ended
	n.agent = nil
	n.mu.Unlock()
	cancel()
	<-ended
	synctest.Wait()
}

// set is the reconciler's side of a Source.
func (n *node) set(agent *Services, tasks []spec.Task, first bool) {
	n.call("set")
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sets++
	wanted := map[string]bool{}
	for _, want := range tasks {
		wanted[want.ID] = true
		n.checkOnDisk(want)
		t := n.tasks[want.ID]
		if t == nil {
			t = n.create(want)
		} else if t.dropped {
			n.t.Errorf("task %s has ended and is wanted again", want.ID)
		}
		if first {
			agent.Report(t.status)
		}
		if want.DesiredStatus == spec.StatusStopped && !t.asked {
			n.ask(t, want)
		}
	}
	for id, t := range n.tasks {
		if wanted[id] {
			continue
		}
		if t.status.LastStatus != spec.StatusStopped {
			n.t.Errorf("task %s of %s is dropped while it is %s", id, t.want.Service, t.status.LastStatus)
		}
		t.dropped = true
	}
}

func (n *node) checkOnDisk(want spec.Task) {
	data, err := os.ReadFile(filepath.Join(n.dir, "tasks", want.ID, "task.json"))
	if err != nil {
		n.t.Errorf("a task was handed on before it was on disk: %v", err)
		return
	}
	var file struct{ Task spec.Task }
	if err := json.Unmarshal(data, &file); err != nil || file.Task.DesiredStatus != want.DesiredStatus {
		n.t.Errorf("task.json of %s says %s, handed on is %s (%v)", want.ID, file.Task.DesiredStatus, want.DesiredStatus, err)
	}
}

// behavior of a task is in its definition: the command of its container.
type behavior struct{ up, healthy, unhealthy, end, stop time.Duration }

func behaviorOf(t spec.Task) behavior {
	b := behavior{up: 50 * time.Millisecond, stop: 100 * time.Millisecond}
	for _, w := range t.Definition.ContainerDefinitions[0].Command {
		k, v, _ := strings.Cut(w, "=")
		d, err := time.ParseDuration(v)
		if err != nil {
			continue
		}
		switch k {
		case "up":
			b.up = d
		case "healthy":
			b.healthy = d
		case "unhealthy":
			b.unhealthy = d
		case "end":
			b.end = d
		case "stop":
			b.stop = d
		}
	}
	return b
}

func (n *node) create(want spec.Task) *simulated {
	n.made++
	var addr [4]byte
	if _, err := hex.Decode(addr[:], []byte(want.ID[:8])); err != nil {
		n.t.Error(err)
	}
	t := &simulated{want: want, addr: netip.AddrFrom4(addr).String()} // the same after a restart
	t.status = spec.TaskStatus{
		TaskID: want.ID, Service: want.Service, Family: want.Family, LastStatus: spec.StatusPending,
		DesiredStatus: spec.StatusRunning, HealthStatus: spec.HealthUnknown,
	}
	for _, o := range n.tasks {
		if o.want.Family == want.Family && o.want.Slot == want.Slot && o.status.LastStatus != spec.StatusStopped {
			n.t.Errorf("tasks %s and %s both have slot %d of %s", o.want.ID, want.ID, want.Slot, want.Family)
		}
	}
	n.tasks[want.ID] = t
	n.log("make %s:%d", want.Family, want.Revision)
	b := behaviorOf(want)
	if holder := n.portHolder(want); holder != nil {
		t.status.Blocked = reconcile.Admit(reconcile.Capacity{}, []reconcile.Claim{reconcile.ClaimOf(holder.want)}, reconcile.ClaimOf(want))
		t.blocked = true
		t.status.Waiting = t.status.Blocked
		if n.terse {
			t.status.Blocked = ""
		}
		n.report(t)
		return t
	}
	n.boot(t, b)
	return t
}

func (n *node) boot(t *simulated, b behavior) {
	n.after(t, b.up, func() bool {
		if t.asked || t.status.LastStatus != spec.StatusPending {
			return false
		}
		t.status.LastStatus, t.status.Blocked = spec.StatusRunning, ""
		c := t.want.Definition.ContainerDefinitions[0]
		t.status.Containers = []spec.ContainerStatus{{
			Name: c.Name, ImageDigest: "sha256:" + c.Image,
			NetworkInterfaces: []spec.NetworkInterface{{PrivateIPv4Address: t.addr}},
		}}
		if b.healthy > 0 {
			n.after(t, b.healthy, func() bool { t.status.HealthStatus = spec.HealthHealthy; return true })
		}
		if b.unhealthy > 0 {
			n.after(t, b.unhealthy, func() bool { t.status.HealthStatus = spec.HealthUnhealthy; return true })
		}
		if b.end > 0 {
			n.after(t, b.end, func() bool { n.finish(t); return true })
		}
		return true
	})
}

// portHolder is the live task that has a static host port of want.
func (n *node) portHolder(want spec.Task) *simulated {
	for _, o := range n.tasks {
		if o.want.ID == want.ID || o.status.LastStatus == spec.StatusStopped || o.blocked {
			continue
		}
		for _, p := range reconcile.ClaimOf(o.want).Ports {
			if slices.Contains(reconcile.ClaimOf(want).Ports, p) {
				return o
			}
		}
	}
	return nil
}

// after lets something happen to a task, and reports it if it says so.
func (n *node) after(t *simulated, d time.Duration, do func() bool) {
	time.AfterFunc(d, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if t.status.LastStatus != spec.StatusStopped && do() {
			n.log("%s:%d is %s %s", t.want.Family, t.want.Revision, t.status.LastStatus, t.status.HealthStatus)
			n.report(t)
		}
	})
}

func (n *node) report(t *simulated) {
	if n.agent != nil {
		n.agent.Report(t.status)
	}
}

// ask is a stop signal. n.mu is held.
func (n *node) ask(t *simulated, want spec.Task) {
	t.asked, t.want = true, want
	n.log("stop %s:%d", want.Family, want.Revision)
	for _, ports := range n.ports {
		for _, p := range ports {
			for _, b := range p.Backends {
				if b.Addr().String() == t.addr && t.status.LastStatus == spec.StatusRunning && !n.broken {
					n.t.Errorf("task %s is stopped while port %d leads to it", want.ID, p.Port)
				}
			}
		}
	}
	t.status.DesiredStatus, t.status.StopCode, t.status.StoppedReason = spec.StatusStopped, want.StopCode, want.StoppedReason
	n.after(t, behaviorOf(want).stop, func() bool { n.finish(t); return true })
}

// finish ends a task as the reconciler does: end.json, then the report. n.mu is held.
func (n *node) finish(t *simulated) {
	t.status.LastStatus = spec.StatusStopped
	if err := n.records.End(t.status); err != nil {
		n.t.Error(err)
	}
	for _, o := range n.tasks { // what it held is free
		if o.blocked && n.portHolder(o.want) == nil {
			o.blocked, o.status.Blocked, o.status.Waiting = false, "", ""
			n.boot(o, behaviorOf(o.want))
		}
	}
}

// SetServicePorts implements runtime.Balancer.
func (n *node) SetServicePorts(_ context.Context, service string, ports []runtime.ServicePort) error {
	n.call("ports")
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken {
		return fmt.Errorf("nftables said no")
	}
	n.ports[service] = ports
	var words []string
	for _, p := range ports {
		words = append(words, fmt.Sprintf("%d→%d tasks", p.Port, len(p.Backends)))
	}
	n.log("ports %s", strings.Join(words, " "))
	return nil
}

// live lists the tasks of a service that are not STOPPED, by family:revision.
func (n *node) live(service string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := []string{}
	for _, t := range n.tasks {
		if t.want.Service == service && t.status.LastStatus != spec.StatusStopped {
			out = append(out, fmt.Sprintf("%s:%d", t.want.Family, t.want.Revision))
		}
	}
	slices.Sort(out)
	return out
}

func (n *node) liveIDs() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, id := range slices.Sorted(maps.Keys(n.tasks)) {
		if n.tasks[id].status.LastStatus != spec.StatusStopped {
			out = append(out, id)
		}
	}
	return out
}

// trailed returns what has happened since it was called last.
func (n *node) trailed() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.trail
	n.trail = nil
	return out
}

// serving lists the addresses behind a service's only steady port.
func (n *node) serving(service string) []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.ports[service]) == 0 {
		return nil
	}
	return n.ports[service][0].Backends
}

// wait lets time pass and everything come to rest.
func wait(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // in the bubble's own time
	synctest.Wait()
}

// def is a definition of one container with a named port and that behaviour.
func def(family string, behave ...string) spec.TaskDefinition {
	td := spec.TaskDefinition{
		Family: family,
		ContainerDefinitions: []spec.ContainerDefinition{{
			Name: "main", Image: "image", Memory: 32, Command: behave,
			PortMappings: []spec.PortMapping{{ContainerPort: 8080, Name: "http"}},
		}},
	}
	if slices.ContainsFunc(behave, func(w string) bool { return strings.HasPrefix(w, "healthy=") || strings.HasPrefix(w, "unhealthy=") }) {
		td.ContainerDefinitions[0].HealthCheck = &spec.HealthCheck{Command: []string{"CMD", "true"}}
	}
	return td.Defaulted()
}

// web is a service of two with a steady port.
func web(td spec.TaskDefinition, change ...func(*spec.Service)) Desired {
	yes, two := true, 2
	s := spec.Service{
		ServiceName: "web", TaskDefinition: td.Family, DesiredCount: &two,
		ServiceConnectConfiguration: &spec.ServiceConnectConfiguration{Enabled: &yes, Services: []spec.ServiceConnectService{
			{PortName: "http", ClientAliases: []spec.ServiceConnectClientAlias{{Port: 80}}},
		}},
	}
	for _, c := range change {
		c(&s)
	}
	return Desired{Name: "web", Service: s, Definition: td, File: "web.yaml"}
}

func count(n int) func(*spec.Service) {
	return func(s *spec.Service) { s.DesiredCount = &n }
}

func breaker(rollback bool) func(*spec.Service) {
	yes := true
	return func(s *spec.Service) {
		if s.DeploymentConfiguration == nil {
			s.DeploymentConfiguration = &spec.DeploymentConfiguration{}
		}
		s.DeploymentConfiguration.DeploymentCircuitBreaker = &spec.DeploymentCircuitBreaker{Enable: &yes, Rollback: &rollback}
	}
}

// steady fails unless the service is as it should be.
func (n *node) steady(s *Services, service string, want ...string) spec.ServiceStatus {
	n.t.Helper()
	if got := n.live(service); !slices.Equal(got, want) {
		n.t.Fatalf("live tasks of %s are %v, want %v\n%s", service, got, want, strings.Join(n.trailed(), "\n"))
	}
	for _, st := range s.List() {
		if st.ServiceName != service {
			continue
		}
		if st.RunningCount != len(want) || st.PendingCount != 0 || st.Waiting != "" || len(st.Deployments) != 1 || st.Deployments[0].RolloutState != spec.RolloutCompleted {
			n.t.Fatalf("%s is not steady: %+v", service, st)
		}
		return st
	}
	n.t.Fatalf("no service %s", service)
	return spec.ServiceStatus{}
}
