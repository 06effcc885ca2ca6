package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ecsd/pkg/runtime/fake"
	"ecsd/pkg/spec"
)

// rig is a reconciler on the fake runtime in a bubble of its own time.
type rig struct {
	*testing.T
	rt     *fake.Runtime
	rec    *Reconciler
	source *source
	cancel context.CancelFunc
	ended  chan struct{}
	cfg    Config
	dir    string

	mu     sync.Mutex
	events []spec.Event
}

// source is a Source that a test drives.
type source struct {
	mu      sync.Mutex
	set     func([]spec.Task)
	tasks   map[string]spec.Task
	silent  bool
	reports map[string][]spec.TaskStatus
}

func (s *source) Run(ctx context.Context, set func([]spec.Task)) error {
	s.mu.Lock()
	s.set = set
	s.push()
	s.mu.Unlock()
	<-ctx.Done()
	return nil
}

// push sends the whole set. s.mu is held.
func (s *source) push() {
	if s.set != nil && !s.silent {
		s.set(slices.Collect(maps.Values(s.tasks)))
	}
}

func (s *source) Report(st spec.TaskStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports[st.TaskID] = append(s.reports[st.TaskID], st)
}

func (s *source) want(tasks ...spec.Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		s.tasks[t.ID] = t
	}
	s.push()
}

func (s *source) drop(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.tasks, id)
	}
	s.push()
}

func (s *source) reported(id string) []spec.TaskStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports[id])
}

func newSource() *source {
	return &source{tasks: map[string]spec.Task{}, reports: map[string][]spec.TaskStatus{}}
}

// inBubble runs a test with a reconciler that runs, and stops it at the end.
func inBubble(t *testing.T, configure func(*Config, *fake.Runtime), test func(*rig)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		g := &rig{T: t, rt: fake.New(), source: newSource(), dir: dir}
		g.cfg = Config{
			Runtime: g.rt, Sources: map[string]Source{"test": g.source}, Now: g.rt.Now,
			Event: func(e spec.Event) {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.events = append(g.events, e)
			},
		}
		if configure != nil {
			configure(&g.cfg, g.rt)
		}
		g.boot()
		defer g.halt()
		test(g)
	})
}

// boot starts a reconciler, as an agent that starts does, on what is there.
func (g *rig) boot() {
	g.Helper()
	records, err := OpenRecords(g.dir, g.rt.Now)
	if err != nil {
		g.Fatal(err)
	}
	g.cfg.Records = records
	g.rec = New(g.cfg)
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel, g.ended = cancel, make(chan struct{})
	go func() {
		defer close(g.ended)
		if err := g.rec.Run(ctx); err != nil {
			g.Errorf("Run: %v", err)
		}
	}()
}

// halt stops the reconciler as an agent that ends does. Tasks stay.
func (g *rig) halt() {
	g.cancel()
	<-g.ended
}

// settle lets d pass and everything come to rest.
func (g *rig) settle(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func (g *rig) view(id string) View {
	g.Helper()
	v, ok := g.rec.View(id)
	if !ok {
		g.Fatalf("there is no view of task %s", id)
	}
	return v
}

// expect checks a task's last status.
func (g *rig) expect(id, status string) spec.TaskStatus {
	g.Helper()
	v := g.view(id)
	if v.Status.LastStatus != status {
		g.Fatalf("task is %s, want %s\nwaiting: %s\nlast error: %s\ncalls: %s", v.Status.LastStatus, status, v.Status.Waiting, v.LastErr, g.calls())
	}
	return v.Status
}

// calls are the calls of the runtime so far, without looks, in short.
func (g *rig) calls() string {
	var out []string
	for _, c := range g.rt.Calls() {
		if c.Method != "List" {
			out = append(out, strings.TrimSpace(c.Method+" "+c.Container))
		}
	}
	return strings.Join(out, ", ")
}

func (g *rig) happened(reason string) []spec.Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []spec.Event
	for _, e := range g.events {
		if e.Reason == reason {
			out = append(out, e)
		}
	}
	return out
}

var taskCount int

// newTask makes a task of these containers.
func newTask(containers ...spec.ContainerDefinition) spec.Task {
	taskCount++
	return spec.Task{
		ID: fmt.Sprintf("%032x", taskCount), Family: "fam", Revision: 1, Slot: 1, Source: "test",
		DesiredStatus: spec.StatusRunning, CreatedAt: time.Now(),
		Definition: spec.TaskDefinition{Family: "fam", NetworkMode: "bridge", ContainerDefinitions: containers},
	}
}

// ctr makes a container that runs a testbox command.
func ctr(name, command string, more ...func(*spec.ContainerDefinition)) spec.ContainerDefinition {
	c := spec.ContainerDefinition{Name: name, Image: "registry.test/box", Command: strings.Fields(command), Memory: 64}
	for _, m := range more {
		m(&c)
	}
	return c
}

func after(on, cond string) func(*spec.ContainerDefinition) {
	return func(c *spec.ContainerDefinition) {
		c.DependsOn = append(c.DependsOn, spec.ContainerDependency{ContainerName: on, Condition: cond})
	}
}

func nonEssential(c *spec.ContainerDefinition) { no := false; c.Essential = &no }

func checked(c *spec.ContainerDefinition) {
	c.HealthCheck = &spec.HealthCheck{Command: []string{"CMD", "/testbox", "exit", "0"}}
}

func restarts(period int, ignored ...int) func(*spec.ContainerDefinition) {
	yes := true
	return func(c *spec.ContainerDefinition) {
		c.RestartPolicy = &spec.RestartPolicy{Enabled: &yes, IgnoredExitCodes: ignored, RestartAttemptPeriod: &period}
	}
}

func hostPort(port int) func(*spec.ContainerDefinition) {
	return func(c *spec.ContainerDefinition) {
		c.PortMappings = append(c.PortMappings, spec.PortMapping{ContainerPort: 80, HostPort: port})
	}
}

func codeOf(s spec.TaskStatus, name string) string {
	for _, c := range s.Containers {
		if c.Name == name {
			if c.ExitCode == nil {
				return "nil"
			}
			return fmt.Sprint(*c.ExitCode)
		}
	}
	return "absent"
}
