package deploy

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ecsd/pkg/spec"
)

// fate is how the tasks of one revision behave.
type fate struct {
	start   time.Duration // from being made to RUNNING
	checked bool
	verdict time.Duration // from RUNNING to HEALTHY or UNHEALTHY, when checked
	well    bool          // that verdict
	life    time.Duration // from RUNNING to its end; 0: for ever
	stop    time.Duration // from being asked to stop, or its end, to STOPPED
}

// world is a node that carries out what Plan says, and an oracle that watches. The oracle
// does not use Plan's own arithmetic: it counts tasks and compares percentages.
type world struct {
	t      *rapid.T
	script          // state, clock, tasks
	fates  []fate   // by revision
	trail  []string // what happened, for the failure message
	events map[string]moments
	failed map[string]int // by deployment: tasks that failed
	counts map[string]bool
	short  bool // no task ever lives as long as ResetAfter
}

// moments are the times at which things happen to a task.
type moments struct{ up, verdict, end, gone time.Duration }

func newWorld(t *rapid.T) *world {
	w := &world{t: t, script: *newScript(), events: map[string]moments{}, failed: map[string]int{}, counts: map[string]bool{}, short: true}
	w.svc.Desired = rapid.IntRange(0, 6).Draw(t, "desired")
	w.svc.MinimumHealthyPercent = rapid.SampledFrom([]int{0, 25, 33, 50, 75, 100}).Draw(t, "min")
	w.svc.MaximumPercent = rapid.SampledFrom([]int{100, 125, 150, 200}).Draw(t, "max")
	w.svc.Drain = time.Duration(rapid.SampledFrom([]int{0, 2}).Draw(t, "drain")) * time.Second
	return w
}

func drawFate(t *rapid.T, good bool) fate {
	s := func(lo, hi int, name string) time.Duration {
		return time.Duration(rapid.IntRange(lo, hi).Draw(t, name)) * 250 * time.Millisecond
	}
	f := fate{start: s(0, 20, "start"), checked: rapid.Bool().Draw(t, "checked"), verdict: s(1, 20, "verdict"), stop: s(0, 12, "stop")}
	f.well = good || rapid.Bool().Draw(t, "well")
	if !good && rapid.Bool().Draw(t, "mortal") {
		f.life = s(1, 40, "life")
	}
	return f
}

func (w *world) log(format string, args ...any) {
	w.trail = append(w.trail, fmt.Sprintf("%8s  ", w.now.At-time.Hour)+fmt.Sprintf(format, args...))
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	tail := w.trail[max(0, len(w.trail)-40):]
	msg := ""
	for _, l := range tail {
		msg += l + "\n"
	}
	w.t.Fatalf("%s\nservice %+v\nstate %+v\n%s", fmt.Sprintf(format, args...), w.svc, w.st, msg)
}

func (w *world) deploy(f fate) string {
	w.fates = append(w.fates, f)
	id := fmt.Sprintf("d%d", len(w.fates))
	w.st = w.st.Deploy(id, len(w.fates), w.now)
	w.log("deploy %s %+v", id, f)
	return id
}

func (w *world) fateOf(t *Task) fate {
	var rev int
	_, _ = fmt.Sscanf(t.Deployment, "d%d", &rev)
	return w.fates[rev-1]
}

// well is the oracle's idea of a healthy task.
func (w *world) well(t *Task) bool {
	if t.Phase != Running || t.Asked {
		return false
	}
	if t.Checked {
		return t.Health == spec.HealthHealthy
	}
	ran, _ := w.now.Since(t.Since)
	return ran >= w.svc.Stable
}

func (w *world) numbers() (live, well int) {
	for _, t := range w.tasks {
		if t.Phase != Stopped {
			live++
		}
		if w.well(t) {
			well++
		}
	}
	return live, well
}

// step lets Plan decide once, carries it out, and judges it.
func (w *world) step() {
	// What is remembered goes through JSON, as in a restart.
	data, err := json.Marshal(w.st)
	if err != nil {
		w.fatalf("%v", err)
	}
	w.st = State{}
	if err := json.Unmarshal(data, &w.st); err != nil {
		w.fatalf("%v", err)
	}

	w.oracleFailures()
	before := w.st
	_, wellBefore := w.numbers()
	blocked := false
	for _, t := range w.tasks {
		blocked = blocked || t.Blocked != ""
	}
	steps := w.carry()
	live, _ := w.numbers()
	w.log("plan: start %d of %s, drain %v, revive %v, stop %v: %s", steps.Start, steps.Target, steps.Drain, steps.Revive, steps.Stop, steps.Waiting)

	if steps.Start > 0 && live*100 > w.svc.Desired*w.svc.MaximumPercent {
		w.fatalf("%d tasks exist after a start, of %d wanted at most %d %%", live, w.svc.Desired, w.svc.MaximumPercent)
	}

	given := w.givenUp(steps)
	staying := 0
	for _, t := range w.tasks {
		if w.well(t) && t.Draining.IsZero() {
			staying++
		}
	}
	if given > 0 && staying*100 < w.svc.Desired*w.svc.MinimumHealthyPercent {
		w.fatalf("%d of %d healthy tasks stay when %d are given up, wanted %d %% of %d", staying, wellBefore, given, w.svc.MinimumHealthyPercent, w.svc.Desired)
	}
	if given > 0 && staying < w.svc.Desired && w.svc.Desired*w.svc.MaximumPercent/100 > w.svc.Desired && !blocked {
		w.fatalf("a healthy task was given up before it had to be: %d stay of %d", staying, w.svc.Desired)
	}
	for _, id := range steps.Serve {
		if t := w.tasks[id]; t == nil || t.Phase != Running || t.Asked || !t.Draining.IsZero() || t.Checked && !w.well(t) {
			w.fatalf("%s is to serve: %+v", id, t)
		}
	}
	w.oracleBreaker(before, steps)
}

// givenUp counts the healthy tasks that these steps take away.
func (w *world) givenUp(steps Steps) (n int) {
	for _, id := range steps.Drain {
		if t := w.tasks[id]; t != nil && w.well(t) {
			n++
		}
	}
	for _, s := range steps.Stop {
		t := w.tasks[s.ID]
		if t == nil || t.Phase != Running || !t.Draining.IsZero() {
			continue
		}
		t.Asked = false // as it was when Plan looked
		if w.well(t) {
			n++
		}
		t.Asked = true
	}
	return n
}

// oracleFailures counts failed tasks by deployment, in its own way.
func (w *world) oracleFailures() {
	for id, t := range w.tasks {
		if w.counts[id] || t.Asked {
			continue
		}
		if t.Phase >= Stopping || t.Phase == Running && t.Health == spec.HealthUnhealthy {
			w.counts[id] = true
			w.failed[t.Deployment]++
		}
	}
}

func (w *world) oracleBreaker(before State, steps Steps) {
	primary := before.Primary()
	failedNow := steps.State.Find(primary.ID)
	trips := primary.State == spec.RolloutInProgress && (failedNow == nil || failedNow.State == spec.RolloutFailed)
	due := w.svc.Breaker && w.svc.Desired > 0 && primary.State == spec.RolloutInProgress && !primary.Rollback &&
		w.failed[primary.ID] >= Threshold(w.svc.Desired)
	if w.short && trips != due {
		w.fatalf("breaker trips: %v, due: %v, with %d failed tasks of %s", trips, due, w.failed[primary.ID], primary.ID)
	}
	if !trips {
		return
	}
	w.log("breaker has tripped")
	var last *Deployment
	for i := range before.Deployments {
		if d := &before.Deployments[i]; d.Completed && d.ID != primary.ID && (last == nil || d.Revision > last.Revision) {
			last = d
		}
	}
	if got := steps.State.Primary(); w.svc.Rollback && last != nil && got.ID != last.ID {
		w.fatalf("rolled back to %s, the last completed is %s", got.ID, last.ID)
	}
	if w.svc.Rollback && last != nil {
		w.failed[last.ID] = 0
	}
}

// advance lets time pass until something happens: to a task, or for Plan. It reports
// whether anything will.
func (w *world) advance(limit time.Duration) bool {
	next := limit
	if w.last.After > 0 {
		next = min(next, w.now.At+w.last.After)
	}
	for id, t := range w.tasks {
		f := w.fateOf(t)
		m, ok := w.events[id]
		if !ok {
			m = moments{up: w.now.At + f.start}
			w.events[id] = m
		}
		for _, at := range w.pendingMoments(t, m) {
			next = min(next, max(at, w.now.At))
		}
	}
	if next >= limit {
		return false
	}
	w.now = w.now.Add(next - w.now.At)
	for _, id := range slices.Sorted(func(yield func(string) bool) {
		for id := range w.tasks {
			if !yield(id) {
				return
			}
		}
	}) {
		w.happen(w.tasks[id])
	}
	return true
}

func (w *world) pendingMoments(t *Task, m moments) (at []time.Duration) {
	switch {
	case t.Phase == Stopped:
	case t.Asked || t.Phase == Stopping:
		if m.gone == 0 {
			m.gone = w.now.At + w.fateOf(t).stop
			w.events[t.ID] = m
		}
		at = append(at, m.gone)
	case t.Phase == Pending:
		at = append(at, m.up)
	case t.Phase == Running:
		if t.Checked && t.Health == "" {
			at = append(at, m.verdict)
		}
		if m.end > 0 {
			at = append(at, m.end)
		}
	}
	return at
}

func (w *world) happen(t *Task) {
	m, f := w.events[t.ID], w.fateOf(t)
	at := w.now.At
	switch {
	case m.gone > 0 && at >= m.gone:
		t.Phase = Stopped
	case t.Asked || t.Phase >= Stopping:
		return
	case t.Phase == Pending && at >= m.up:
		t.Phase, t.Since, t.Checked = Running, w.now, f.checked
		m.verdict = at + f.verdict
		if f.life > 0 {
			m.end = at + f.life
		}
		w.events[t.ID] = m
	case t.Phase == Running && m.end > 0 && at >= m.end:
		t.Phase = Stopping
	case t.Phase == Running && f.checked && t.Health == "" && at >= m.verdict:
		t.Health = spec.HealthUnhealthy
		if f.well {
			t.Health = spec.HealthHealthy
		}
	default:
		return
	}
	w.log("%s of %s is %s %s", t.ID, t.Deployment, t.Phase, t.Health)
}

// run plans and lets time pass for d, or until nothing happens any more, which it reports.
func (w *world) run(d time.Duration) (rests bool) {
	limit := w.now.At + d
	for range 5000 {
		w.step()
		if !w.advance(limit) {
			return true
		}
		if w.now.At >= limit {
			return false
		}
	}
	w.fatalf("no rest after 5000 steps")
	return false
}

// rest judges a service at rest whose newest definition is good.
func (w *world) rest(id string) {
	d := w.st.Primary()
	_, well := w.numbers()
	stuck := w.svc.Desired*w.svc.MaximumPercent/100 == w.svc.Desired && (w.svc.Desired*w.svc.MinimumHealthyPercent+99)/100 == w.svc.Desired
	if w.last.Start > 0 || len(w.last.Stop)+len(w.last.Drain) > 0 {
		w.fatalf("at rest, and yet there is something to do: %+v", w.last)
	}
	if d.State == spec.RolloutCompleted {
		if well != w.svc.Desired || len(w.tasks) != w.svc.Desired || !w.st.Steady || len(w.st.Deployments) != 1 || w.last.Waiting != "" {
			w.fatalf("completed with %d healthy of %d tasks of %d, steady %v, waiting %q", well, len(w.tasks), w.svc.Desired, w.st.Steady, w.last.Waiting)
		}
		return
	}
	if !stuck || w.st.Standstill.Kind != saidStuck || !w.st.Standstill.Told {
		w.fatalf("%s has come to rest before it completed, and nobody has been told why", d.ID)
	}
	if id != "" && d.ID != id {
		w.fatalf("primary is %s, want %s", d.ID, id)
	}
}

// TestRolls: whatever was deployed before, however its tasks behave and whenever it is
// replaced, the bounds hold at every step, and a definition whose tasks start is reached.
func TestRolls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for i := range rapid.IntRange(0, 3).Draw(t, "deployments") {
			w.deploy(drawFate(t, i == 0))
			w.run(time.Duration(rapid.IntRange(0, 240).Draw(t, "time")) * 250 * time.Millisecond)
			if rapid.Bool().Draw(t, "scale") {
				w.svc.Desired = rapid.IntRange(0, 6).Draw(t, "desired")
			}
		}
		id := w.deploy(drawFate(t, true))
		if !w.run(time.Hour) {
			w.fatalf("no rest after an hour")
		}
		w.rest(id)
		if w.st.Primary().ID != id {
			w.fatalf("primary is %s, want %s", w.st.Primary().ID, id)
		}
	})
}

// TestBreaker: a definition whose tasks always fail is given up exactly at the threshold,
// and the last one that completed runs in the end.
func TestBreaker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.svc.Desired = rapid.IntRange(1, 8).Draw(t, "wanted")
		w.svc.Breaker, w.svc.Rollback = true, rapid.Bool().Draw(t, "rollback")
		good := drawFate(t, true)
		w.deploy(good)
		w.run(5 * time.Minute)
		if w.st.Primary().State != spec.RolloutCompleted {
			w.fatalf("the first definition has not been completed")
		}
		bad := drawFate(t, false)
		bad.checked, bad.well, bad.life = true, false, time.Duration(rapid.IntRange(0, 20).Draw(t, "end"))*250*time.Millisecond
		w.deploy(bad)
		if !w.run(2 * time.Hour) {
			w.fatalf("no rest after two hours")
		}
		never := (w.svc.Desired*w.svc.MinimumHealthyPercent+99)/100 == w.svc.Desired &&
			w.svc.Desired*w.svc.MaximumPercent/100 == w.svc.Desired
		switch {
		case never:
			w.rest("d2")
		case w.svc.Rollback:
			w.rest("d1")
			if w.st.Primary().ID != "d1" {
				w.fatalf("ends at %s", w.st.Primary().ID)
			}
		default:
			if d := w.st.Primary(); d.ID != "d2" || d.State != spec.RolloutFailed {
				w.fatalf("ends at %s %s", d.ID, d.State)
			}
			if live, _ := w.numbers(); live > w.svc.Desired {
				w.fatalf("%d tasks are kept of %d", live, w.svc.Desired)
			}
		}
	})
}

// TestRemoved: a removed service comes to have no task, whatever state it was in.
func TestRemoved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.deploy(drawFate(t, rapid.Bool().Draw(t, "good")))
		w.run(time.Duration(rapid.IntRange(0, 240).Draw(t, "time")) * 250 * time.Millisecond)
		w.deploy(drawFate(t, rapid.Bool().Draw(t, "good too")))
		w.run(time.Duration(rapid.IntRange(0, 240).Draw(t, "more")) * 250 * time.Millisecond)
		w.svc.Removed = true
		made := w.made
		for range 100 {
			w.carry()
			if !w.advance(w.now.At + time.Hour) {
				break
			}
		}
		if len(w.tasks) != 0 || w.made != made {
			w.fatalf("%d tasks are left, %d were started", len(w.tasks), w.made-made)
		}
	})
}
