package health

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecsd/pkg/spec"
)

// at is a moment of the test's boot, in seconds.
func at(sec float64) spec.Time {
	return spec.Time{Boot: "b", At: time.Duration(sec * float64(time.Second))}
}

func ptr(i int) *int { return &i }

func TestCheckOf(t *testing.T) {
	full := Check{Args: []string{"/ok", "-x"}, Interval: 7 * time.Second, Timeout: 2 * time.Second, StartPeriod: 9 * time.Second, Retries: 4}
	for name, c := range map[string]struct {
		in   *spec.HealthCheck
		want Check
		ok   bool
	}{
		"none":        {nil, Check{}, false},
		"no command":  {&spec.HealthCheck{}, Check{}, false},
		"NONE":        {&spec.HealthCheck{Command: []string{"NONE"}}, Check{}, false},
		"CMD alone":   {&spec.HealthCheck{Command: []string{"CMD"}}, Check{}, false},
		"shell alone": {&spec.HealthCheck{Command: []string{"CMD-SHELL"}}, Check{}, false},
		"everything":  {&spec.HealthCheck{Command: []string{"CMD", "/ok", "-x"}, Interval: ptr(7), Timeout: ptr(2), StartPeriod: ptr(9), Retries: ptr(4)}, full, true},
		"defaults": {&spec.HealthCheck{Command: []string{"/ok"}},
			Check{Args: []string{"/ok"}, Interval: 30 * time.Second, Timeout: 5 * time.Second, Retries: 3}, true},
		"shell": {&spec.HealthCheck{Command: []string{"CMD-SHELL", `curl -f "http://localhost" || exit 1`}},
			Check{Args: []string{"/bin/sh", "-c", `curl -f "http://localhost" || exit 1`}, Interval: 30 * time.Second, Timeout: 5 * time.Second, Retries: 3}, true},
		"zeros are defaults": {&spec.HealthCheck{Command: []string{"CMD", "/ok"}, Interval: ptr(0), Timeout: ptr(0), StartPeriod: ptr(0), Retries: ptr(0)},
			Check{Args: []string{"/ok"}, Interval: 30 * time.Second, Timeout: 5 * time.Second, Retries: 3}, true},
	} {
		got, ok := CheckOf(spec.ContainerDefinition{HealthCheck: c.in})
		if !ok && !c.ok {
			continue
		}
		if ok != c.ok || strings.Join(got.Args, "|") != strings.Join(c.want.Args, "|") || got.Interval != c.want.Interval ||
			got.Timeout != c.want.Timeout || got.StartPeriod != c.want.StartPeriod || got.Retries != c.want.Retries {
			t.Errorf("%s: got %+v %v, want %+v %v", name, got, ok, c.want, c.ok)
		}
	}
}

func TestNext(t *testing.T) {
	check := Check{Interval: 10 * time.Second, Retries: 3}
	patient := check
	patient.StartPeriod = 60 * time.Second
	type step struct {
		at   float64
		r    Result
		want string
	}
	ok, bad, fault := Result{}, Result{Code: 1}, Result{Fault: true}
	const u, h, s = spec.HealthUnknown, spec.HealthHealthy, spec.HealthUnhealthy
	for name, c := range map[string]struct {
		check Check
		steps []step
	}{
		"a success is enough":         {check, []step{{1, ok, h}}},
		"three failures":              {check, []step{{10, bad, u}, {20, bad, u}, {30, bad, s}}},
		"early failures do not count": {check, []step{{1, bad, u}, {2, bad, u}, {4, bad, u}, {8, bad, u}, {10, bad, u}, {20, bad, u}, {30, bad, s}}},
		"two, then well, then two":    {check, []step{{10, bad, u}, {20, bad, u}, {30, ok, h}, {40, bad, h}, {50, bad, h}}},
		"once well, every failure":    {check, []step{{1, ok, h}, {2, bad, h}, {3, bad, h}, {4, bad, s}}},
		"and back":                    {check, []step{{10, bad, u}, {20, bad, u}, {30, bad, s}, {40, bad, s}, {50, ok, h}, {60, bad, h}}},
		"start period":                {patient, []step{{10, bad, u}, {20, bad, u}, {30, bad, u}, {40, bad, u}, {59, bad, u}, {61, bad, u}, {71, bad, u}, {81, bad, s}}},
		"a success ends start period": {patient, []step{{5, ok, h}, {15, bad, h}, {25, bad, h}, {35, bad, s}}},
		"faults say nothing":          {check, []step{{10, fault, u}, {20, fault, u}, {30, fault, u}, {40, fault, u}, {50, ok, h}, {60, fault, h}, {70, fault, h}, {80, fault, h}}},
		"a fault between failures":    {check, []step{{10, bad, u}, {20, bad, u}, {25, fault, u}, {30, bad, s}}},
	} {
		t.Run(name, func(t *testing.T) {
			state := Begin(at(0))
			for _, x := range c.steps {
				before := state
				state = Next(state, x.r, c.check, at(x.at))
				if state.Status != x.want {
					t.Fatalf("at %vs: %s, want %s", x.at, state.Status, x.want)
				}
				if (state.Status != before.Status) != (state.Since == at(x.at)) {
					t.Errorf("at %vs: %s since %v", x.at, state.Status, state.Since.At)
				}
			}
		})
	}
}

// Whatever happens, the verdict is the one that the history of checks demands, worked out
// here from the whole history and not step by step.
func TestNextAgainstHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Check{
			Interval:    time.Duration(rapid.IntRange(5, 30).Draw(t, "interval")) * time.Second,
			StartPeriod: time.Duration(rapid.IntRange(0, 60).Draw(t, "start")) * time.Second,
			Retries:     rapid.IntRange(1, 5).Draw(t, "retries"),
		}
		type made struct {
			at time.Duration
			r  Result
		}
		var history []made
		s, now := Begin(at(0)), at(0)
		for range rapid.IntRange(1, 40).Draw(t, "checks") {
			now = now.Add(Delay(s, c, now) + time.Duration(rapid.IntRange(0, 900).Draw(t, "late"))*time.Millisecond)
			r := Result{Code: rapid.IntRange(0, 1).Draw(t, "code"), Fault: rapid.IntRange(0, 9).Draw(t, "fault") == 0}
			s = Next(s, r, c, now)
			history = append(history, made{now.At, r})
		}

		want, streak, passed, last := spec.HealthUnknown, 0, false, time.Duration(0)
		for _, m := range history {
			switch {
			case m.r.Fault:
			case m.r.Code == 0:
				want, streak, passed = spec.HealthHealthy, 0, true
			case passed || (m.at >= c.StartPeriod && m.at-last >= c.Interval*9/10):
				if streak++; streak >= c.Retries {
					want = spec.HealthUnhealthy
				}
				last = m.at
			}
		}
		if s.Status != want {
			t.Fatalf("got %s, want %s after %+v with %+v", s.Status, want, history, c)
		}
		// Never called ill sooner than ECS would: retries intervals (of which a tenth is jitter).
		if earliest := time.Duration(c.Retries) * c.Interval * 9 / 10; s.Status == spec.HealthUnhealthy && !s.Passed && s.Since.At < earliest {
			t.Fatalf("UNHEALTHY after %v, before %v", s.Since.At, earliest)
		}
	})
}

func TestDelay(t *testing.T) {
	c := Check{Interval: 30 * time.Second, Retries: 3}
	s := Begin(at(0))
	for _, x := range []struct{ now, want float64 }{{0, 1}, {1, 1}, {2, 2}, {4, 4}, {8, 8}, {16, 14}, {29.5, 0.5}, {31, 30}, {300, 30}} {
		if got := Delay(s, c, at(x.now)); got != at(x.want).At {
			t.Errorf("UNKNOWN at %vs: %v, want %vs", x.now, got, x.want)
		}
	}
	s = Next(s, Result{}, c, at(5))
	if got := Delay(s, c, at(5)); got != c.Interval {
		t.Errorf("HEALTHY: %v, want the interval", got)
	}
	if got := Delay(Begin(spec.Time{Boot: "before"}), c, at(5)); got != c.Interval {
		t.Errorf("started in another boot: %v, want the interval", got)
	}
}
