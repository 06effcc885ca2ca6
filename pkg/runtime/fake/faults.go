package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"ecsd/pkg/runtime"
)

// SetImage says what a reference leads to.
func (r *Runtime) SetImage(ref string, image Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[ref] = image
}

// NoImage makes a reference one that its registry does not know.
func (r *Runtime) NoImage(ref string) {
	r.SetImage(ref, Image{Err: runtime.NewTaskError("CannotPullContainerError", errdefs.ErrNotFound, "pull %s: not found", ref)})
}

// Fail makes the next n calls of a method answer err, without effect; nil stands for an
// unspecified machine fault. A method is named as in runtime.Runtime.
func (r *Runtime) Fail(method string, n int, err error) {
	if err == nil {
		err = fmt.Errorf("%s: %w", method, errInjected)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for range n {
		r.faults[method] = append(r.faults[method], err)
	}
}

// LoseAnswers makes the next n calls of a method take effect and answer with an error all
// the same, as when the connection breaks in between.
func (r *Runtime) LoseAnswers(method string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[method] += n
}

// Hang makes calls of a method wait until release is called or their context ends.
func (r *Runtime) Hang(method string) (release func()) {
	gate := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hangs[method] = gate
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.hangs[method] == gate {
			delete(r.hangs, method)
			close(gate)
		}
	}
}

// LoseEvents stops events from being sent, or sends them again.
func (r *Runtime) LoseEvents(lose bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = lose
}

// Forget does what happens when a task's shim is killed: its live containers read as
// exited with an unknown code, and their processes live on, until KillContainer or
// EndForgotten.
func (r *Runtime) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tasks[id]
	if t == nil {
		return
	}
	for _, c := range t.containers {
		if c.run != 0 && !c.orphan {
			c.orphan = true
			c.seen.PID = 0
			c.seen.Exit = &runtime.Exit{At: r.now()}
		}
	}
	r.changed(id)
}

// EndForgotten ends the processes that Forget let live on.
func (r *Runtime) EndForgotten(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tasks[id]; t != nil {
		for _, c := range t.containers {
			if c.orphan {
				r.exited(id, c, nil, false)
			}
		}
	}
}

// Exit ends a container's process from outside with a code.
func (r *Runtime) Exit(id, name string, code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tasks[id]; t != nil {
		if c := t.containers[name]; c != nil && c.run != 0 {
			r.exited(id, c, &code, false)
		}
	}
}

// Vanish removes a container behind everybody's back, as an operator with ctr may. No
// event tells of it.
func (r *Runtime) Vanish(id, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tasks[id]; t != nil {
		delete(t.containers, name)
	}
}

// Reboot restarts the machine: all processes are gone, containers and their files are
// there, networks are not, and the boot clock starts again.
func (r *Runtime) Reboot() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.boots++
	r.booted = time.Now()
	for _, t := range r.tasks {
		if t.sandbox != nil {
			t.sandbox.Ready = false
			t.sandbox.Networks = map[string]runtime.Network{}
		}
		for _, c := range t.containers {
			c.run, c.orphan, c.seen.PID = 0, false, 0
		}
	}
	for sub := range r.subs {
		r.send(sub, "")
	}
}

// Calls lists the calls of methods so far, in order; without names those of all.
func (r *Runtime) Calls(methods ...string) []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Call
	for _, c := range r.calls {
		if len(methods) == 0 || slices.Contains(methods, c.Method) {
			out = append(out, c)
		}
	}
	return out
}

// Left lists the tasks of which anything is on the machine.
func (r *Runtime) Left() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for id := range r.tasks {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// enter is the beginning of each call: it writes the call down, hangs and fails as told.
func (r *Runtime) enter(ctx context.Context, method, id, name string) error {
	r.mu.Lock()
	r.calls = append(r.calls, Call{method, id, name, time.Now()})
	gate := r.hangs[method]
	r.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%s %s: %w", method, id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.faults[method]; len(q) > 0 {
		r.faults[method] = q[1:]
		return q[0]
	}
	return nil
}

// left is the end of each call that took effect. r.mu is held.
func (r *Runtime) left(method string) error {
	if r.lost[method] > 0 {
		r.lost[method]--
		return errors.Join(errInjected, fmt.Errorf("%s: the answer was lost: %w", method, errdefs.ErrUnavailable))
	}
	return nil
}

func (r *Runtime) leave(method string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left(method)
}

// Events sends the ids of tasks of which a process started or ended, until ctx ends; then
// it closes the channel.
func (r *Runtime) Events(ctx context.Context) <-chan string {
	sub := make(chan string, 1024)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subs[sub] = struct{}{}
	context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.subs, sub)
		close(sub)
	})
	return sub
}

// changed tells subscribers of a task. r.mu is held.
func (r *Runtime) changed(id string) {
	if r.deaf {
		return
	}
	for sub := range r.subs {
		r.send(sub, id)
	}
}

// send drops the event when nobody reads: an event is a hint.
func (r *Runtime) send(sub chan string, id string) {
	select {
	case sub <- id:
	default:
	}
}
