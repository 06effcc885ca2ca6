package deploy

import (
	"math"
	"reflect"
	"testing"
	"time"

	"ecsd/pkg/spec"
)

// TestBounds holds Lower and Upper against the examples in ECS's documentation, and
// against floating point, which is how one would say it in words.
func TestBounds(t *testing.T) {
	for _, c := range []struct{ desired, min, max, lower, upper int }{
		{4, 50, 200, 2, 8},
		{4, 50, 100, 2, 4},
		{2, 75, 200, 2, 4},
		{3, 100, 125, 3, 3},
		{1, 0, 200, 0, 2},
		{1, 50, 150, 1, 1},
		{10, 33, 133, 4, 13},
		{0, 100, 200, 0, 0},
	} {
		s := Service{Desired: c.desired, MinimumHealthyPercent: c.min, MaximumPercent: c.max}
		if s.Lower() != c.lower || s.Upper() != c.upper {
			t.Errorf("%d at %d/%d: lower %d, upper %d; want %d, %d", c.desired, c.min, c.max, s.Lower(), s.Upper(), c.lower, c.upper)
		}
	}
	for desired := range 40 {
		for percent := range 201 {
			s := Service{Desired: desired, MinimumHealthyPercent: percent, MaximumPercent: percent}
			exact := float64(desired*percent) / 100
			if s.Lower() != int(math.Ceil(exact)) || s.Upper() != int(math.Floor(exact)) {
				t.Fatalf("%d at %d: lower %d, upper %d of %v", desired, percent, s.Lower(), s.Upper(), exact)
			}
		}
	}
}

func TestThreshold(t *testing.T) {
	for desired, want := range map[int]int{0: 3, 1: 3, 5: 3, 6: 3, 7: 4, 25: 13, 400: 200, 401: 200, 800: 200} {
		if got := Threshold(desired); got != want {
			t.Errorf("Threshold(%d) = %d, want %d", desired, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	if Backoff("d", 0) != 0 || Backoff("d", 1) != 0 {
		t.Error("the first failure is to be replaced at once")
	}
	base := time.Second
	for level := 2; level < 40; level++ {
		got := Backoff("d", level)
		if got < base*9/10 || got > base*11/10 || got > MaxBackoff {
			t.Errorf("Backoff(%d) = %s, want about %s", level, got, base)
		}
		if got != Backoff("d", level) {
			t.Errorf("Backoff(%d) is not always the same", level)
		}
		base = min(2*base, MaxBackoff)
	}
	if Backoff("a", 5) == Backoff("b", 5) && Backoff("a", 6) == Backoff("b", 6) {
		t.Error("two services back off in step")
	}
}

func ptr[T any](v T) *T { return &v }

func TestFromService(t *testing.T) {
	steady := &spec.ServiceConnectConfiguration{Enabled: ptr(true), Services: []spec.ServiceConnectService{
		{PortName: "http", ClientAliases: []spec.ServiceConnectClientAlias{{Port: 80}}},
	}}
	for name, c := range map[string]struct {
		in   spec.Service
		want Service
	}{
		"defaults": {
			spec.Service{ServiceName: "s"},
			Service{Name: "s", Desired: 1, MinimumHealthyPercent: 100, MaximumPercent: 200, Stable: DefaultStable, Bake: DefaultBake},
		},
		"a daemon runs on each node and never overlaps": {
			spec.Service{SchedulingStrategy: spec.StrategyDaemon, DeploymentConfiguration: &spec.DeploymentConfiguration{MaximumPercent: ptr(200)}},
			Service{Desired: 3, MaximumPercent: 100, Stable: DefaultStable, Bake: DefaultBake},
		},
		"all said": {
			spec.Service{
				DesiredCount: ptr(5), HealthCheckGracePeriodSeconds: ptr(7), ServiceConnectConfiguration: steady,
				DeploymentConfiguration: &spec.DeploymentConfiguration{
					MinimumHealthyPercent: ptr(50), MaximumPercent: ptr(150),
					DeploymentCircuitBreaker: &spec.DeploymentCircuitBreaker{Enable: ptr(true), Rollback: ptr(true)},
				},
			},
			Service{
				Desired: 5, MinimumHealthyPercent: 50, MaximumPercent: 150, Breaker: true, Rollback: true,
				Grace: 7 * time.Second, Stable: DefaultStable, Bake: DefaultBake, Drain: DefaultDrain,
			},
		},
		"rollback without the breaker is nothing": {
			spec.Service{DeploymentConfiguration: &spec.DeploymentConfiguration{
				DeploymentCircuitBreaker: &spec.DeploymentCircuitBreaker{Enable: ptr(false), Rollback: ptr(true)},
			}},
			Service{Desired: 1, MinimumHealthyPercent: 100, MaximumPercent: 200, Stable: DefaultStable, Bake: DefaultBake},
		},
	} {
		if got := FromService(c.in, 3, Options{}); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
	o := FromService(spec.Service{ServiceConnectConfiguration: steady}, 1, Options{Stable: -1, Bake: time.Hour, Drain: -1})
	if o.Stable != 0 || o.Bake != time.Hour || o.Drain != 0 {
		t.Errorf("options not taken: %+v", o)
	}
}

// TestPlanChangesNothing: Plan is a function of its arguments and leaves them alone.
func TestPlanChangesNothing(t *testing.T) {
	now := spec.Time{Boot: "b", At: time.Hour, Wall: time.Unix(0, 0)}
	svc := Service{Name: "web", Desired: 1, MinimumHealthyPercent: 0, MaximumPercent: 200, Breaker: true, Rollback: true}
	st := State{}.Deploy("d1", 1, now)
	st.Deployments[0].State, st.Deployments[0].Completed = spec.RolloutCompleted, true
	st = st.Deploy("d2", 2, now)
	st.Deployments[0].Failed = 2
	tasks := []Task{
		{ID: "t3", Deployment: "d2", Phase: Stopped, Created: now},
		{ID: "t2", Deployment: "d2", Phase: Pending, Created: now, Blocked: "x", Holders: []string{"t1"}},
		{ID: "t1", Deployment: "d1", Phase: Running, Created: now, Since: now},
	}
	copyState, copyTasks := st.clone(), append([]Task(nil), tasks...)
	a := Plan(svc, st, tasks, now.Add(time.Minute))
	b := Plan(svc, st, tasks, now.Add(time.Minute))
	if !reflect.DeepEqual(st, copyState) || !reflect.DeepEqual(tasks, copyTasks) {
		t.Error("Plan has changed its arguments")
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("two answers to one question:\n%+v\n%+v", a, b)
	}
	if a.State.Primary().ID != "d1" || !a.State.Primary().Rollback {
		t.Errorf("no rollback: %+v", a.State)
	}
	if got := Plan(svc, State{}, tasks, now); len(got.Stop)+got.Start != 0 {
		t.Errorf("without a deployment nothing can be known to be wrong: %+v", got)
	}
}

// TestElapsed: a timer that began in another boot is over.
func TestElapsed(t *testing.T) {
	now := spec.Time{Boot: "b", At: 10 * time.Second}
	for name, c := range map[string]struct {
		since spec.Time
		left  time.Duration
		over  bool
	}{
		"running":        {spec.Time{Boot: "b", At: 7 * time.Second}, 2 * time.Second, false},
		"just over":      {spec.Time{Boot: "b", At: 5 * time.Second}, 0, true},
		"of before boot": {spec.Time{Boot: "a", At: 9 * time.Second}, 0, true},
		"never":          {spec.Time{}, 0, true},
	} {
		if left, over := elapsed(now, c.since, 5*time.Second); left != c.left || over != c.over {
			t.Errorf("%s: %s %v, want %s %v", name, left, over, c.left, c.over)
		}
	}
}
