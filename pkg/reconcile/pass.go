package reconcile

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// maxSteps bounds the steps of one pass; then others get their turn.
const maxSteps = 32

// work is one worker: it takes tasks from the queue and passes over them.
func (r *Reconciler) work(ctx context.Context, queue workqueue.TypedDelayingInterface[string]) {
	for {
		id, closed := queue.Get()
		if closed {
			return
		}
		again := r.guarded(ctx, id)
		if ctx.Err() == nil {
			switch {
			case again == now:
				queue.Add(id)
			case again > 0:
				queue.AddAfter(id, again)
			}
		}
		queue.Done(id)
	}
}

// now asks for another pass at once; never for none until something happens.
const (
	never time.Duration = 0
	now   time.Duration = -1
)

// guarded is a pass that a panic does not get out of: it fails this task's pass, with
// back-off, and no other's.
func (r *Reconciler) guarded(ctx context.Context, id string) (again time.Duration) {
	started := time.Now()
	result := "success"
	r.metrics.working(1)
	defer func() {
		if p := recover(); p != nil {
			again, result = r.panicked(id, p), "error"
		}
		r.metrics.working(-1)
		r.metrics.passed(result, time.Since(started))
	}()
	again, err := r.pass(ctx, id)
	switch {
	case err != nil:
		result = "error"
	case again == now:
		result = "requeue"
	case again > 0:
		result = "requeue_after"
	}
	r.mu.Lock()
	delete(r.starting, id)
	r.mu.Unlock()
	return again
}

// panicked counts a panic and says when to try again.
func (r *Reconciler) panicked(id string, p any) time.Duration {
	err := r.caught(id, p)
	again := r.failed(actionKey{id, observe, ""}, err)
	if again == now {
		return time.Second
	}
	return again
}

// caught counts a panic and makes it an error.
func (r *Reconciler) caught(id string, p any) error {
	r.metrics.panics.WithLabelValues("reconcile").Inc()
	r.cfg.Logger.Error("a pass over a task panicked; it is tried again", "task", id, "panic", p, "stack", string(debug.Stack()))
	r.event(spec.EventWarning, id, reasonPanic, fmt.Sprintf("a bug in ecsd, please report it: %v", p))
	return fmt.Errorf("panic: %v", p)
}

// pass brings one task as far as it goes now: observe, plan, act, and again. It says when
// to come back, and gives the last error for the record.
func (r *Reconciler) pass(ctx context.Context, id string) (again time.Duration, err error) {
	r.mu.Lock()
	e := r.tasks[id]
	r.mu.Unlock()
	if e == nil {
		return never, nil
	}
	if left := r.patience(e, actionKey{id, observe, ""}); left > 0 {
		return left, nil
	}
	done := map[Action]bool{} // in this pass
	var assumed *runtime.Task
	for range maxSteps {
		if ctx.Err() != nil {
			return never, nil
		}
		var want spec.Task
		var have Observed
		if assumed != nil {
			r.mu.Lock()
			e.seen = *assumed
			r.mu.Unlock()
			want, have = r.gather(e)
		} else {
			want, have, err = r.observeTask(ctx, id)
			if err != nil {
				return r.blind(ctx, e, err), err
			}
			r.succeeded(actionKey{id, observe, ""})
		}
		status := Status(want, have)
		steps := Plan(want, have, have.At)
		status.Waiting, status.Blocked = steps.Waiting, have.Blocked
		todo, later := r.due(e, steps, done)
		if assumed != nil && (len(todo) == 0 || status.LastStatus == spec.StatusStopped) {
			assumed = nil // what is told, written down or left alone must have been seen
			continue
		}
		if err := r.settleEnd(e, have, &status); err != nil {
			again := r.failed(actionKey{id, writeEnd, ""}, err)
			r.publish(e, have, status)
			return again, err
		}
		if assumed == nil {
			r.publish(e, have, status)
		}
		if len(todo) == 0 {
			r.rest(e, have)
			return later, nil
		}
		worked, firstErr := r.act(ctx, e, want, have, todo)
		if firstErr != nil {
			err = firstErr
		}
		for _, a := range todo {
			a.Why = ""
			done[a] = true
		}
		assumed = assume(have.Task, todo, worked, have.At)
	}
	return now, err
}

// rest ends a pass that found nothing to do: what was seen serves the next one, if that
// comes soon and no hint before it; and a task of which nothing is left frees what it held.
func (r *Reconciler) rest(e *entry, have Observed) {
	r.mu.Lock()
	e.fresh = !e.hinted
	ended := e.ended
	r.mu.Unlock()
	if !ended || !nothingLeft(have.Task) {
		return
	}
	r.release(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if (e.forgotten || r.cfg.Records == nil) && !e.wanted {
		r.dismiss(e)
	}
}

// nothingLeft reports whether a task has left the machine.
func nothingLeft(t runtime.Task) bool {
	return t.Sandbox == nil && len(t.Containers) == 0 && t.Processes == 0
}

// blind handles a task that could not be observed: nothing is concluded from that.
func (r *Reconciler) blind(ctx context.Context, e *entry, err error) time.Duration {
	if ctx.Err() != nil {
		return never
	}
	again := r.failed(actionKey{e.want.ID, observe, ""}, err)
	r.mu.Lock()
	viewed, have, status := e.viewed, e.view.Have, e.view.Status
	want := e.want
	r.mu.Unlock()
	if !viewed {
		status = Status(want, Observed{})
	}
	status.Waiting = "the container runtime cannot tell how the task is: " + err.Error()
	r.publish(e, have, status)
	return again
}

// settleEnd makes an end final: that a task winds down is remembered in what is wanted of
// it, and that it has ended is written down, before its containers, which tell of it, are
// removed. From then on its status is what was written.
func (r *Reconciler) settleEnd(e *entry, have Observed, status *spec.TaskStatus) error {
	r.mu.Lock()
	if w := Remembered(e.want, *status); w.DesiredStatus != e.want.DesiredStatus {
		r.stop(e, w.StopCode, w.StoppedReason)
	}
	ended, final := e.ended, e.final
	r.mu.Unlock()
	if ended {
		waiting := status.Waiting
		*status = final
		status.Waiting = waiting
		return nil
	}
	if status.LastStatus != spec.StatusStopped {
		return nil
	}
	if status.StoppedAt == nil {
		status.StoppedAt = wall(have.At.Wall)
	}
	if r.cfg.Records != nil {
		if err := r.cfg.Records.End(*status); err != nil {
			return err
		}
	}
	r.pulls.drop(status.TaskID)
	r.mu.Lock()
	e.ended, e.final = true, *status
	r.mu.Unlock()
	r.succeeded(actionKey{status.TaskID, writeEnd, ""})
	return nil
}

// due picks the actions to do now: not those done in this pass already, nor those that
// failed and have to wait. later is when to come back for the rest.
func (r *Reconciler) due(e *entry, steps Steps, done map[Action]bool) (todo []Action, later time.Duration) {
	later = steps.After
	sooner := func(d time.Duration) {
		if later == never || d < later {
			later = d
		}
	}
	for _, a := range steps.Actions {
		plain := a
		plain.Why = ""
		if left := r.patience(e, actionKey{e.want.ID, a.Verb, a.Container}); left > 0 {
			sooner(left)
			continue
		}
		if done[plain] {
			if r.retrying(e, actionKey{e.want.ID, a.Verb, a.Container}) {
				sooner(now) // it failed for the first time: again at once
			}
			continue
		}
		todo = append(todo, a)
	}
	return todo, later
}

// act carries out actions, at the same time when there are several, and says which worked.
func (r *Reconciler) act(ctx context.Context, e *entry, want spec.Task, have Observed, todo []Action) (worked []bool, first error) {
	worked = make([]bool, len(todo))
	errs := make([]error, len(todo))
	one := func(i int) {
		defer func() {
			if p := recover(); p != nil {
				errs[i] = r.caught(want.ID, p)
			}
		}()
		errs[i] = r.do(ctx, want, have, todo[i])
	}
	r.mu.Lock()
	r.acts++
	e.acted = r.acts
	r.mu.Unlock()
	if len(todo) == 1 {
		one(0)
	} else {
		var all sync.WaitGroup
		for i := range todo {
			all.Go(func() { one(i) })
		}
		all.Wait()
	}
	r.mu.Lock()
	r.acts++
	e.acted = r.acts
	r.mu.Unlock()
	for i, err := range errs {
		worked[i] = err == nil
		if err != nil && first == nil {
			first = err
		}
		r.outcome(ctx, want, have, todo[i], err)
	}
	return worked, first
}

// do makes the one call that an action is.
func (r *Reconciler) do(ctx context.Context, want spec.Task, have Observed, a Action) error {
	r.cfg.Logger.Debug("act", "task", want.ID, "verb", string(a.Verb), "container", a.Container, "why", a.Why)
	if a.Verb == PullImage {
		def, _ := want.Container(a.Container)
		r.startPull(want, def)
		return nil
	}
	ctx, cancel := r.call(ctx)
	defer cancel()
	rt, id := r.cfg.Runtime, want.ID
	switch a.Verb {
	case CreateSandbox:
		return rt.CreateSandbox(ctx, want)
	case CreateContainer:
		return rt.CreateContainer(ctx, want, runtime.CreateConfig{
			Name: a.Container, Image: have.Pulls[a.Container].Image, Env: r.cfg.Env(id, a.Container),
		})
	case StartContainer:
		return rt.StartContainer(ctx, id, a.Container)
	case StopContainer:
		return rt.StopContainer(ctx, id, a.Container)
	case KillContainer:
		return rt.KillContainer(ctx, id, a.Container)
	case RemoveContainer:
		return rt.RemoveContainer(ctx, id, a.Container)
	case RemoveSandbox:
		return rt.RemoveSandbox(ctx, id)
	default:
		return fmt.Errorf("there is no action %q", a.Verb)
	}
}

// outcome keeps what an action came to: nothing to say, the definition's own fault, which
// is final, or a fault of the machine, which is tried again.
func (r *Reconciler) outcome(ctx context.Context, want spec.Task, have Observed, a Action, err error) {
	key := actionKey{want.ID, a.Verb, a.Container}
	if err == nil {
		if a.Verb != PullImage { // it has only begun
			r.succeeded(key)
		}
		return
	}
	if ctx.Err() != nil {
		return
	}
	if te, final := runtime.Final(err); final && blames(a, have) {
		r.mu.Lock()
		if e := r.tasks[want.ID]; e != nil {
			e.failed[a.Container] = te
		}
		r.mu.Unlock()
		r.event(spec.EventWarning, want.ID, reasonFailed, named(a)+te.Error())
		return
	}
	r.failed(key, err)
	r.cfg.Logger.Warn("a step failed; it is tried again", "task", want.ID, "verb", string(a.Verb), "container", a.Container, "error", err)
	r.event(spec.EventWarning, want.ID, reasonRetry, fmt.Sprintf("%s%s: %v", named(a), a.Verb, err))
}

// blames reports whether a final error of an action may end its task. One of the repair of
// a running task's sandbox may not: it runs, so its definition cannot be at fault.
func blames(a Action, have Observed) bool {
	switch a.Verb {
	case CreateContainer, StartContainer:
		return true
	case CreateSandbox:
		for _, c := range have.Task.Containers {
			if c.Live() {
				return false
			}
		}
		return true
	}
	return false
}

func named(a Action) string {
	if a.Container == "" {
		return ""
	}
	return "container " + a.Container + ": "
}

// assume says what a task looks like after actions that all worked and whose effect is
// plain, so that the next step need not ask. It is nil when it must: after a start, a
// signal, or anything that failed.
func assume(t runtime.Task, todo []Action, worked []bool, at runtime.Time) *runtime.Task {
	t.Containers = maps.Clone(t.Containers)
	if t.Containers == nil {
		t.Containers = map[string]runtime.Container{}
	}
	for i, a := range todo {
		if !worked[i] {
			return nil
		}
		switch a.Verb {
		case PullImage:
		case CreateSandbox:
			sb := runtime.Sandbox{Ready: true}
			if t.Sandbox != nil {
				sb = *t.Sandbox
				sb.Ready = true
			}
			t.Sandbox = &sb
		case CreateContainer:
			t.Containers[a.Container] = runtime.Container{Name: a.Container, Created: at}
		case RemoveContainer:
			delete(t.Containers, a.Container)
		case RemoveSandbox:
			if t.Processes > 0 {
				return nil
			}
			t.Sandbox = nil
		default:
			return nil
		}
	}
	return &t
}

// publish makes a view of what is known and hands it out.
func (r *Reconciler) publish(e *entry, have Observed, status spec.TaskStatus) {
	r.mu.Lock()
	old := e.view
	first := !e.viewed
	retry := time.Duration(0)
	for _, until := range e.retry {
		if d := time.Until(until); d > 0 && (retry == 0 || d < retry) {
			retry = d
		}
	}
	v := View{Want: e.want, Have: have, Status: status, Ended: e.ended, Failures: e.failures, Retry: retry, LastErr: e.lastErr}
	e.view, e.viewed = v, true
	tell := e.source != "" && (!e.toldAny || !reflect.DeepEqual(e.told, status))
	if tell {
		e.told, e.toldAny = status, true
	}
	source := e.source
	r.mu.Unlock()
	if tell {
		r.outbox.put(source, status)
	}
	r.changed(old, v, first)
	r.cfg.OnView(v)
}
