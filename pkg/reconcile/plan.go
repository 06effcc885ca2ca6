// Package reconcile converges the tasks of one node: it compares what is wanted of each
// task with what is observed, does the next step, and reports.
//
//	Source ──set([]Task)──► want ─┐                       ┌─► OnView, Views
//	   ▲                          │                       │
//	   └──Report── outbox ◄───────┼────── Status ◄────────┤
//	                              ▼                       │
//	Runtime.Events ─hint─► queue(task id) ─► observe ─► Plan ─► act ─► observe …
//	resync, pull done, After, back-off ─┘
//
// The decisions are functions of values: Plan says what to do for one task, Status what to
// tell of it, Admit whether it fits on the host, Garbage what to clear away. The Reconciler
// fetches their arguments and carries out their answers; Records remembers what was asked
// and how it ended. All of them can be asked again at any time and come to the same answer,
// so a lost event costs time and nothing else.
//
// A task moves one way only:
//
//	wanted ─► admitted ─► pulls, sandbox ─► containers created ─► started ─► RUNNING
//	   │          │               │                  │               │          │
//	   └──────────┴───────────────┴───── winds down ─┴───────────────┴──────────┘
//	                                          │  stop in reverse order, kill when late,
//	                                          ▼  proof that no process is left
//	                                       STOPPED ─► end recorded ─► containers, sandbox removed
package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// How long to wait before asking the machine again for what it was asked already.
const (
	killAgain  = 5 * time.Second // a killed container that is still there
	reapAgain  = time.Second     // processes that outlive their container
	waitForAny = time.Duration(0)
)

// Plan says what to do now for one task. It is a function of its arguments alone. The
// actions are independent of one another; what must come after them is found by the next
// Plan. Plan of a state in which all is well is empty.
//
// Containers start in the order that dependsOn, links and volumesFrom ask for; their images
// are pulled ahead, while the sandbox is made. A container is created ahead of the start of
// those it merely must START after, but not before what it needs COMPLETE, SUCCESS or
// HEALTHY is so, as on ECS: what an init container prepares is there when mounts are made.
//
// A task that winds down never starts a container again. It stops those first that nothing
// else depends on, kills what outlives its stopTimeout, and counts as dead only when
// neither a container nor a stray process of it is left. Then its containers are removed,
// and at last its sandbox. Why it winds down is read off its containers; before they are
// removed it must have been Remembered.
func Plan(want spec.Task, have Observed, now runtime.Time) Steps {
	r := newReading(want, have, now)
	if r.end != nil {
		return r.down()
	}
	return r.up()
}

// plan gathers the steps of one Plan.
type plan struct {
	steps   Steps
	waiting []string
}

func (p *plan) do(v Verb, container, why string, args ...any) {
	p.steps.Actions = append(p.steps.Actions, Action{Verb: v, Container: container, Why: fmt.Sprintf(why, args...)})
}

func (p *plan) wait(why string, args ...any) {
	if text := fmt.Sprintf(why, args...); !slices.Contains(p.waiting, text) {
		p.waiting = append(p.waiting, text)
	}
}

// lookIn asks for another look after d, or sooner.
func (p *plan) lookIn(d time.Duration) {
	if d > 0 && (p.steps.After == waitForAny || d < p.steps.After) {
		p.steps.After = d
	}
}

func (p *plan) done() Steps {
	p.steps.Waiting = strings.Join(p.waiting, "; ")
	return p.steps
}

// up plans for a task that is to run.
func (r *reading) up() Steps {
	p := &plan{}
	if !r.have.Admitted && r.have.Task.Sandbox == nil {
		if r.have.Blocked != "" {
			p.wait("%s", r.have.Blocked)
		} else {
			p.wait("waits for room on this host")
		}
		return p.done()
	}
	sandbox := r.have.Task.Sandbox != nil && r.have.Task.Sandbox.Ready
	switch {
	case r.have.Task.Sandbox == nil:
		p.do(CreateSandbox, "", "the task has no sandbox")
	case !sandbox:
		p.do(CreateSandbox, "", "the sandbox is not complete")
	}
	for _, def := range r.want.Definition.ContainerDefinitions {
		switch r.stage[def.Name] {
		case absent:
			r.make(p, def, sandbox)
		case created:
			if sandbox && r.ready(p, def, "start", needs(def)) {
				p.do(StartContainer, def.Name, "%s", startWhy(def))
			}
		case again:
			if r.have.Task.Processes > 0 {
				r.reap(p, def.Name)
			} else if sandbox {
				c := r.have.Task.Containers[def.Name]
				p.do(StartContainer, def.Name, "exited %s; its restart policy runs it again", codeText(c.Exit))
			}
		case over:
			if r.have.Task.Processes > 0 {
				r.reap(p, def.Name)
			}
		}
	}
	for _, left := range r.late {
		p.lookIn(left)
	}
	return p.done()
}

// make plans the steps from nothing to a created container.
func (r *reading) make(p *plan, def spec.ContainerDefinition, sandbox bool) {
	pull := r.have.Pulls[def.Name]
	switch {
	case pull.Started.IsZero():
		p.do(PullImage, def.Name, "container %s is to be made from image %s", def.Name, def.Image)
	case pull.Done.IsZero():
		p.wait("image %s of container %s is being pulled", def.Image, def.Name)
	case sandbox && r.ready(p, def, "be created", ahead(needs(def))):
		p.do(CreateContainer, def.Name, "image and sandbox are ready")
	}
}

// ahead leaves out the needs for which a container need not wait to be created.
func ahead(all []need) []need {
	var out []need
	for _, n := range all {
		if n.cond != condStart {
			out = append(out, n)
		}
	}
	return out
}

// ready reports whether needs are met, and otherwise says what is waited for.
func (r *reading) ready(p *plan, def spec.ContainerDefinition, what string, needs []need) bool {
	ok := true
	for _, n := range needs {
		if r.met(n) {
			continue
		}
		ok = false
		switch n.cond {
		case condCreate:
			p.wait("container %s waits to %s until %s has been created", def.Name, what, n.on)
		case condStart:
			p.wait("container %s waits to %s until %s has started", def.Name, what, n.on)
		case condComplete:
			p.wait("container %s waits to %s until %s has exited", def.Name, what, n.on)
		case condSuccess:
			p.wait("container %s waits to %s until %s has exited with code 0", def.Name, what, n.on)
		default:
			p.wait("container %s waits to %s until %s is %s", def.Name, what, n.on, n.cond)
		}
	}
	return ok
}

func startWhy(def spec.ContainerDefinition) string {
	all := needs(def)
	if len(all) == 0 {
		return "created, and depends on nothing"
	}
	var met []string
	for _, n := range all {
		met = append(met, n.on+" "+n.cond)
	}
	return "created, and its dependencies are met: " + strings.Join(met, ", ")
}

// reap plans the kill of what outlived a container.
func (r *reading) reap(p *plan, name string) {
	p.do(KillContainer, name, "%d processes of the task outlived their container", r.have.Task.Processes)
	p.wait("%d processes of the task outlived their container", r.have.Task.Processes)
	p.lookIn(reapAgain)
}

// down plans for a task that winds down.
func (r *reading) down() Steps {
	p := &plan{}
	if r.anyLive() {
		r.stop(p)
		return p.done()
	}
	if r.have.Task.Processes > 0 {
		r.reapAll(p)
		return p.done()
	}
	for _, name := range r.names() {
		if _, there := r.have.Task.Containers[name]; there {
			p.do(RemoveContainer, name, "the task has ended: %s", r.end.reason)
		}
	}
	if len(p.steps.Actions) == 0 && r.have.Task.Sandbox != nil {
		p.do(RemoveSandbox, "", "the task has ended: %s", r.end.reason)
	}
	return p.done()
}

// stop plans for the live containers of a task that winds down.
func (r *reading) stop(p *plan) {
	needed := dependants(r.want.Definition)
	for _, name := range r.names() {
		c := r.have.Task.Containers[name]
		if !c.Live() {
			continue
		}
		if c.StopSignaled.IsZero() {
			if by := r.firstLive(needed[name]); by != "" && r.ring == nil {
				p.wait("container %s is stopped once %s, which depends on it, has stopped", name, by)
				continue
			}
			p.do(StopContainer, name, "the task stops: %s", r.end.reason)
			p.lookIn(r.stopTimeout(name))
			continue
		}
		gone, _ := r.now.Since(c.StopSignaled) // of this boot, or it would not be live
		if left := r.stopTimeout(name) - gone; left > 0 {
			p.wait("container %s has %s left to stop", name, left.Round(time.Second))
			p.lookIn(left)
			continue
		}
		p.do(KillContainer, name, "did not stop within %s of its stop signal", r.stopTimeout(name))
		p.wait("container %s is being killed: it did not stop within %s", name, r.stopTimeout(name))
		p.lookIn(killAgain)
	}
}

// firstLive is the first of names that is live, or "".
func (r *reading) firstLive(names []string) string {
	for _, name := range names {
		if c := r.have.Task.Containers[name]; c.Live() {
			return name
		}
	}
	return ""
}

// reapAll plans the end of processes that outlived all containers.
func (r *reading) reapAll(p *plan) {
	for _, name := range r.names() {
		if c, there := r.have.Task.Containers[name]; there && c.Exited() {
			p.do(KillContainer, name, "%d processes of the task outlived their container", r.have.Task.Processes)
		}
	}
	if len(p.steps.Actions) == 0 {
		p.do(RemoveSandbox, "", "%d processes of the task outlived its containers", r.have.Task.Processes)
	}
	p.wait("%d processes of the task outlived their container", r.have.Task.Processes)
	p.lookIn(reapAgain)
}
