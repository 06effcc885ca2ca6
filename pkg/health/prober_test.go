package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// machine runs commands as the test says: a small runtime that has nothing but execs.
type machine struct {
	mu      sync.Mutex
	answer  func(ctx context.Context, task, name string) (runtime.ExecResult, error)
	calls   map[string]int // by task/container
	running map[string]int
	most    int // running at once
	ids     map[string]bool
	down    bool // does not answer a Ping
}

func newMachine(answer func(ctx context.Context, task, name string) (runtime.ExecResult, error)) *machine {
	return &machine{answer: answer, calls: map[string]int{}, running: map[string]int{}, ids: map[string]bool{}}
}

func (m *machine) Exec(ctx context.Context, task, name, id string, args []string, limit int) (runtime.ExecResult, error) {
	key := task + "/" + name
	m.mu.Lock()
	m.calls[key]++
	m.running[key]++
	m.ids[id] = true
	all := 0
	for k, n := range m.running {
		if n > 1 {
			panic("two checks of " + k + " at once")
		}
		all += n
	}
	m.most = max(m.most, all)
	answer := m.answer
	m.mu.Unlock()
	defer func() { m.mu.Lock(); m.running[key]--; m.mu.Unlock() }()
	return answer(ctx, task, name)
}

func (m *machine) Ping(ctx context.Context) (runtime.Versions, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return runtime.Versions{}, errdefs.ErrUnavailable
	}
	return runtime.Versions{}, nil
}

func (m *machine) count(task string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[task+"/app"]
}

func (m *machine) set(answer func(ctx context.Context, task, name string) (runtime.ExecResult, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = answer
}

func code(n int) func(context.Context, string, string) (runtime.ExecResult, error) {
	return func(context.Context, string, string) (runtime.ExecResult, error) {
		return runtime.ExecResult{Code: n, Output: fmt.Sprint("code ", n)}, nil
	}
}

func fails(err error) func(context.Context, string, string) (runtime.ExecResult, error) {
	return func(context.Context, string, string) (runtime.ExecResult, error) { return runtime.ExecResult{}, err }
}

// hang waits for the context, as a command that never ends.
func hang(ctx context.Context, _, _ string) (runtime.ExecResult, error) {
	<-ctx.Done()
	return runtime.ExecResult{}, ctx.Err()
}

// bubble runs a test in synthetic time, with a prober under way.
func bubble(t *testing.T, m *machine, c Config, f func(p *Prober, changed func() []string)) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var changes []string
		c.Exec = m
		c.Now = now
		c.Changed = func(task string) { mu.Lock(); changes = append(changes, task); mu.Unlock() }
		p := New(c)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		f(p, func() []string { mu.Lock(); defer mu.Unlock(); return append([]string(nil), changes...) })
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where synctest begins

func now() spec.Time { return spec.Time{Boot: "b", At: time.Since(epoch), Wall: time.Now()} }

// wait lets synthetic time pass, and then everything settle.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// live is a view of a task with one live container, started now.
func live(task string, h *spec.HealthCheck) reconcile.View {
	return reconcile.View{
		Want: spec.Task{ID: task, Definition: spec.TaskDefinition{ContainerDefinitions: []spec.ContainerDefinition{{Name: "app", HealthCheck: h}}}},
		Have: reconcile.Observed{Task: runtime.Task{ID: task, Containers: map[string]runtime.Container{
			"app": {Name: "app", Created: now(), Started: now()},
		}}},
	}
}

// with is the same view with the container changed.
func with(v reconcile.View, change func(*runtime.Container)) reconcile.View {
	c := v.Have.Task.Containers["app"]
	change(&c)
	v.Have.Task.Containers = map[string]runtime.Container{"app": c}
	return v
}

func every(interval int) *spec.HealthCheck {
	return &spec.HealthCheck{Command: []string{"CMD", "/check"}, Interval: ptr(interval), Timeout: ptr(5), Retries: ptr(3)}
}

func expect(t *testing.T, p *Prober, task, want string) {
	t.Helper()
	if got := p.Verdict(task, "app"); got.Status != want {
		t.Errorf("%v: %s is %s (%q), want %s", time.Since(epoch), task, got.Status, got.Output, want)
	}
}

func TestFirstVerdictComesSoon(t *testing.T) {
	m := newMachine(code(0))
	bubble(t, m, Config{}, func(p *Prober, changed func() []string) {
		p.Observe(live("t", every(30)))
		expect(t, p, "t", spec.HealthUnknown)
		wait(1100 * time.Millisecond)
		expect(t, p, "t", spec.HealthHealthy)
		if got := changed(); len(got) != 1 || got[0] != "t" {
			t.Errorf("changes %v, want one of t", got)
		}
		wait(10 * time.Minute)
		if n := m.count("t"); n < 20 || n > 23 {
			t.Errorf("%d checks in ten minutes at an interval of 30 s", n)
		}
		if got := changed(); len(got) != 1 {
			t.Errorf("a verdict that stays the same was announced again: %v", got)
		}
	})
}

func TestUnhealthyAndBack(t *testing.T) {
	m := newMachine(code(1))
	bubble(t, m, Config{}, func(p *Prober, changed func() []string) {
		p.Observe(live("t", every(10)))
		wait(26 * time.Second)
		expect(t, p, "t", spec.HealthUnknown)
		wait(10 * time.Second)
		expect(t, p, "t", spec.HealthUnhealthy)
		if v := p.Verdict("t", "app"); v.Code != 1 || v.Output != "code 1" || v.Since.IsZero() {
			t.Errorf("verdict %+v", v)
		}
		m.set(code(0))
		wait(10 * time.Second)
		expect(t, p, "t", spec.HealthHealthy)
		if got := changed(); len(got) != 2 {
			t.Errorf("%d changes, want 2", len(got))
		}
	})
}

func TestARunIsJudgedByItself(t *testing.T) {
	m := newMachine(code(0))
	bubble(t, m, Config{}, func(p *Prober, _ func() []string) {
		v := live("t", every(10))
		p.Observe(v)
		wait(2 * time.Second)
		expect(t, p, "t", spec.HealthHealthy)
		p.Observe(v) // nothing new
		expect(t, p, "t", spec.HealthHealthy)

		m.set(code(1))
		again := with(v, func(c *runtime.Container) { c.Restarts, c.Started = 1, now() })
		p.Observe(again)
		expect(t, p, "t", spec.HealthUnknown)
		wait(time.Minute)
		expect(t, p, "t", spec.HealthUnhealthy)

		n := m.count("t")
		p.Observe(with(again, func(c *runtime.Container) { c.StopSignaled = now() }))
		expect(t, p, "t", spec.HealthUnknown)
		wait(time.Minute)
		if m.count("t") != n {
			t.Error("a container that is being stopped was checked")
		}
		p.Observe(with(again, func(c *runtime.Container) { c.Exit = &runtime.Exit{At: now()} }))
		wait(time.Minute)
		if m.count("t") != n {
			t.Error("a dead container was checked")
		}
	})
}

func TestNoCheckNoVerdict(t *testing.T) {
	m := newMachine(code(0))
	bubble(t, m, Config{}, func(p *Prober, changed func() []string) {
		p.Observe(live("t", nil))
		p.Observe(live("u", every(5)))
		p.Forget("u")
		wait(time.Hour)
		expect(t, p, "t", spec.HealthUnknown)
		expect(t, p, "u", spec.HealthUnknown)
		if len(m.calls) != 0 || len(changed()) != 0 {
			t.Errorf("checks %v, changes %v", m.calls, changed())
		}
	})
}

func TestHungCheckIsAFailure(t *testing.T) {
	m := newMachine(hang)
	bubble(t, m, Config{}, func(p *Prober, _ func() []string) {
		p.Observe(live("t", every(10)))
		wait(2 * time.Minute)
		expect(t, p, "t", spec.HealthUnhealthy)
		if v := p.Verdict("t", "app"); v.Code != codeTimedOut || !strings.Contains(v.Output, "timeout") {
			t.Errorf("verdict %+v", v)
		}
	})
}

// A runtime that is down or hung is no illness of the containers.
func TestFaultsOfTheMachineSayNothing(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(context.Context, string, string) (runtime.ExecResult, error)
		down   bool
	}{
		"refuses":       {fails(fmt.Errorf("dial: %w", errdefs.ErrUnavailable)), true},
		"hangs":         {hang, true},
		"no such task":  {fails(errdefs.ErrNotFound), false},
		"anything else": {fails(errors.New("shim: ttrpc: closed")), false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(code(0))
			bubble(t, m, Config{}, func(p *Prober, changed func() []string) {
				p.Observe(live("well", every(5)))
				wait(10 * time.Second)
				m.set(c.answer)
				m.mu.Lock()
				m.down = c.down
				m.mu.Unlock()
				p.Observe(live("new", every(5)))
				wait(10 * time.Minute)
				expect(t, p, "well", spec.HealthHealthy)
				expect(t, p, "new", spec.HealthUnknown)
				if v := p.Verdict("new", "app"); v.Output == "" {
					t.Error("nothing says why there is no verdict")
				}
				m.set(code(0))
				wait(10 * time.Second)
				expect(t, p, "new", spec.HealthHealthy)
				if got := changed(); len(got) != 2 {
					t.Errorf("changes %v", got)
				}
			})
		})
	}
}

func TestCommandThatCannotRunIsAFailure(t *testing.T) {
	for _, err := range []error{
		runtime.NewTaskError("CannotStartContainerError", nil, "no such executable /check"),
		fmt.Errorf("exec: no such executable: %w", errdefs.ErrInvalidArgument),
	} {
		m := newMachine(fails(err))
		bubble(t, m, Config{}, func(p *Prober, _ func() []string) {
			p.Observe(live("t", every(5)))
			wait(time.Minute)
			expect(t, p, "t", spec.HealthUnhealthy)
			if v := p.Verdict("t", "app"); !strings.Contains(v.Output, "no such executable") {
				t.Errorf("verdict %+v", v)
			}
		})
	}
}

// Many containers: their checks are spread, bounded, and one that cannot even be killed
// takes nothing from the others.
func TestManyContainers(t *testing.T) {
	m := newMachine(nil)
	bubble(t, m, Config{Parallel: 4}, func(p *Prober, _ func() []string) {
		stuck := make(chan struct{}) // of the bubble, for its clock to go on
		defer close(stuck)
		m.set(func(ctx context.Context, task, _ string) (runtime.ExecResult, error) {
			if strings.HasPrefix(task, "stuck") {
				<-stuck // whatever the context says
				return runtime.ExecResult{}, nil
			}
			<-time.After(25 * time.Millisecond)
			return runtime.ExecResult{}, nil
		})
		for i := range 4 {
			p.Observe(live(fmt.Sprint("stuck", i), every(10)))
		}
		wait(5 * time.Second)
		for i := range 300 {
			p.Observe(live(fmt.Sprint("t", i), every(10)))
		}
		wait(time.Minute)
		for i := range 300 {
			expect(t, p, fmt.Sprint("t", i), spec.HealthHealthy)
		}
		if m.most > 8 {
			t.Errorf("%d checks at once, want at most 4 and the 4 that are stuck", m.most)
		}
		for i := range 4 {
			if n := m.count(fmt.Sprint("stuck", i)); n != 1 {
				t.Errorf("a stuck check was started %d times", n)
			}
		}
		if len(m.ids) != 1 {
			t.Errorf("exec ids %v, want one", m.ids)
		}
	})
}

// After a restart of the agent everything that runs is checked soon, not all in the same
// moment, and the start periods of old are over.
func TestAfterARestart(t *testing.T) {
	m := newMachine(func(context.Context, string, string) (runtime.ExecResult, error) {
		<-time.After(20 * time.Millisecond)
		return runtime.ExecResult{}, nil
	})
	bubble(t, m, Config{Parallel: 100}, func(p *Prober, _ func() []string) {
		var views []reconcile.View
		for i := range 100 {
			views = append(views, live(fmt.Sprint("t", i), every(30)))
		}
		wait(time.Hour)
		for _, v := range views {
			p.Observe(v)
		}
		wait(2 * time.Second)
		for i := range 100 {
			expect(t, p, fmt.Sprint("t", i), spec.HealthHealthy)
		}
		if m.most > 30 {
			t.Errorf("%d of 100 checks at once", m.most)
		}
	})
}

func TestMetric(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := newMachine(code(0))
	bubble(t, m, Config{Registerer: reg}, func(p *Prober, _ func() []string) {
		p.Observe(live("t", every(30)))
		wait(2 * time.Second)
	})
	if n, err := testutil.GatherAndCount(reg, "ecsd_health_check_duration_seconds"); err != nil || n != 1 {
		t.Errorf("%d series, error %v", n, err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}
