package reconcile

import (
	"context"
	"maps"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// firstLook looks at the whole machine until it answers. It is false when ctx ended first.
func (r *Reconciler) firstLook(ctx context.Context) bool {
	for try := 1; ctx.Err() == nil; try++ {
		if r.look(ctx) {
			return true
		}
		pause(ctx, delay(try))
	}
	return false
}

// resync looks at the whole machine now and then, and whenever asked to. It is what makes
// events mere hints.
func (r *Reconciler) resync(ctx context.Context) {
	failures := 0
	for {
		wait := r.cfg.Resync
		if failures > 0 {
			wait = min(wait, delay(failures))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		if !r.look(ctx) {
			failures++
			continue
		}
		failures = 0
		r.garbage()
	}
}

// look observes the whole machine and queues every task in hand. What it saw serves as the
// observation of each task's next pass, unless something was done to the task meanwhile:
// no plan is made on an observation older than our own last action.
func (r *Reconciler) look(ctx context.Context) bool {
	r.mu.Lock()
	since := r.acts
	r.mu.Unlock()
	call, cancel := r.call(ctx)
	seen, err := r.cfg.Runtime.List(call)
	cancel()
	at := r.cfg.Now()
	if err != nil {
		if ctx.Err() == nil {
			r.cfg.Logger.Warn("cannot see all that runs on this machine; what was not seen stays as it is", "error", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turned = at
	r.answered = err == nil || len(seen) > 0
	if !r.answered {
		return false
	}
	byID := make(map[string]runtime.Task, len(seen))
	for _, t := range seen {
		byID[t.ID] = t
	}
	if !r.listed {
		r.listed = true
		r.starting = map[string]bool{}
		for id := range r.tasks {
			r.starting[id] = true
		}
	}
	for id, e := range r.tasks {
		t, there := byID[id]
		if !there {
			t = runtime.Task{ID: id}
		}
		switch {
		case e.acted > since || e.seenAt.Boot == at.Boot && e.seenAt.At > at.At:
			// newer is known
		case there || err == nil:
			e.seen, e.seenAt, e.fresh = t, at, true
			r.hold(e)
		default:
			e.fresh = false // an answer that was not complete: look at it alone
		}
		if !e.cleared() {
			r.add(id)
		}
	}
	if err == nil {
		r.strange, r.whole = map[string]runtime.Task{}, true
	}
	if r.strange == nil {
		r.strange = map[string]runtime.Task{}
	}
	r.lookedAt = at
	for id, t := range byID {
		if _, known := r.tasks[id]; !known {
			r.strange[id] = t
		}
	}
	if err == nil {
		r.metrics.looked(at.Wall)
	}
	return true
}

// cleared reports whether a task has ended and nothing of it is left on the machine.
func (e *entry) cleared() bool {
	return e.ended && e.viewed && nothingLeft(e.seen)
}

// hold sets aside what a task that is on the machine takes, whoever wants it. r.mu is held.
func (r *Reconciler) hold(e *entry) {
	if !nothingLeft(e.seen) {
		e.admitted, e.blocked = true, ""
	}
}

// hear takes hints from the runtime.
func (r *Reconciler) hear(ctx context.Context, events <-chan string) {
	for {
		select {
		case <-ctx.Done():
			return
		case id, open := <-events:
			if !open {
				pause(ctx, time.Second)
				events = r.cfg.Runtime.Events(ctx)
				id = "" // after a subscription comes a look
			}
			if id == "" {
				r.poke()
				continue
			}
			r.mu.Lock()
			if e := r.tasks[id]; e != nil {
				e.fresh, e.hinted = false, true
				r.add(id)
			}
			r.mu.Unlock()
		}
	}
}

// freshFor is how long an observation may wait for the pass that uses it.
const freshFor = time.Second

// observeTask gives what is to be planned for: the task and everything known of it.
func (r *Reconciler) observeTask(ctx context.Context, id string) (spec.Task, Observed, error) {
	r.mu.Lock()
	e := r.tasks[id]
	age, sameBoot := r.cfg.Now().Since(e.seenAt)
	fresh := e.fresh && sameBoot && age < freshFor
	e.fresh, e.hinted = false, false
	r.mu.Unlock()
	if !fresh {
		call, cancel := r.call(ctx)
		seen, err := r.cfg.Runtime.List(call, id)
		cancel()
		at := r.cfg.Now()
		if err != nil {
			return spec.Task{}, Observed{}, err
		}
		r.mu.Lock()
		e.seen, e.seenAt = runtime.Task{ID: id}, at
		for _, t := range seen {
			if t.ID == id {
				e.seen = t
			}
		}
		r.mu.Unlock()
	}
	want, have := r.gather(e)
	return want, have, nil
}

// gather puts together what is known of a task now.
func (r *Reconciler) gather(e *entry) (spec.Task, Observed) {
	r.mu.Lock()
	want := e.want
	have := Observed{
		At: r.cfg.Now(), Task: e.seen, StopTimeout: r.cfg.StopTimeout,
		Pulls: maps.Clone(e.pulls), Failed: maps.Clone(e.failed), Health: map[string]Health{},
	}
	r.mu.Unlock()
	for _, def := range want.Definition.ContainerDefinitions {
		if c, there := have.Task.Containers[def.Name]; there && def.HealthCheck != nil && c.Live() {
			have.Health[def.Name] = r.cfg.Health(want.ID, def.Name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold(e)
	if !e.admitted && want.DesiredStatus != spec.StatusStopped {
		e.blocked = Admit(r.cfg.Host, r.held(), e.claim)
		e.admitted = e.blocked == ""
	}
	have.Admitted, have.Blocked = e.admitted, e.blocked
	return want, have
}

// held lists what admitted tasks take. r.mu is held.
func (r *Reconciler) held() []Claim {
	var out []Claim
	for _, e := range r.tasks {
		if e.admitted {
			out = append(out, e.claim)
		}
	}
	for id, t := range r.strange {
		out = append(out, strangersClaim(id, t))
	}
	return out
}

// release gives back what a task took, and lets those look again that wait for it.
func (r *Reconciler) release(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !e.admitted {
		return
	}
	e.admitted = false
	for _, id := range r.inOrder() {
		if r.tasks[id].blocked != "" {
			r.add(id)
		}
	}
}
