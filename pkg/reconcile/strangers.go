package reconcile

import (
	"fmt"
	"maps"
	"slices"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// stranger makes the task to wind down for what runs on the machine and has no record: its
// containers stop in no particular order, with the default stop timeout.
func stranger(seen runtime.Task) spec.Task {
	t := spec.Task{
		ID: seen.ID, Cluster: seen.Identity.Cluster, Family: seen.Identity.Family,
		Revision: seen.Identity.Revision, Service: seen.Identity.Service, Slot: seen.Identity.Slot,
		Source:     seen.Identity.Source,
		Definition: spec.TaskDefinition{Family: seen.Identity.Family},
	}
	if seen.Sandbox != nil {
		t.Definition.NetworkMode = seen.Sandbox.NetworkMode
	}
	for _, name := range slices.Sorted(maps.Keys(seen.Containers)) {
		c := seen.Containers[name]
		t.Definition.ContainerDefinitions = append(t.Definition.ContainerDefinitions, spec.ContainerDefinition{Name: name})
		if t.CreatedAt.IsZero() || c.Created.Wall.Before(t.CreatedAt) {
			t.CreatedAt = c.Created.Wall
		}
	}
	return t
}

// strangersClaim is what a task holds of which only the sandbox is known: its ports.
func strangersClaim(id string, seen runtime.Task) Claim {
	c := Claim{Task: id, Name: seen.Identity.Family}
	if seen.Sandbox == nil {
		return c
	}
	for _, n := range seen.Sandbox.Networks {
		for _, p := range n.Ports {
			c.Ports = append(c.Ports, fmt.Sprintf("%d/%s", p.HostPort, p.Protocol))
		}
	}
	return c
}

// garbage clears away what Garbage finds.
func (r *Reconciler) garbage() {
	in := Inventory{Now: r.cfg.Now(), Wait: r.cfg.Cleanup, Known: map[string]bool{}, Unreadable: map[string]bool{}}
	r.mu.Lock()
	in.Heard = r.heardAll()
	search := in.Heard && !r.searched
	for id, e := range r.tasks {
		in.Known[id] = true
		if !nothingLeft(e.seen) {
			in.Observed = append(in.Observed, id)
		}
	}
	in.Observed = slices.AppendSeq(in.Observed, maps.Keys(r.strange))
	strange := maps.Clone(r.strange)
	r.mu.Unlock()

	records := map[string]spec.Task{}
	if r.cfg.Records != nil {
		in.Ends = r.cfg.Records.Ends()
		if search {
			tasks, err := r.cfg.Records.LoadTasks()
			if err != nil {
				r.cfg.Logger.Warn("records of tasks cannot be read; tasks that run on this machine and have such a record are left alone", "error", err)
				maps.Copy(in.Unreadable, r.cfg.Records.unreadable())
			}
			for _, t := range tasks {
				if _, ended := r.cfg.Records.Ended(t.ID); !ended {
					records[t.ID] = t
					in.Recorded = append(in.Recorded, t.ID)
				}
			}
		}
		for id := range strange {
			if t, err := r.cfg.Records.Task(id); err == nil {
				records[id] = t
			} else if r.cfg.Records.broken(err) {
				in.Unreadable[id] = true
			}
		}
	}
	out := Garbage(in)
	for _, id := range out.Spared {
		r.cfg.Logger.Warn("a task runs that no source wants, but its record cannot be read: it is left alone; move the record away to have it stopped", "task", id)
	}
	for _, id := range out.Strangers {
		t, known := records[id]
		if !known {
			t = stranger(strange[id])
		}
		r.windDown(t, strange[id])
	}
	for _, id := range out.Forget {
		r.forget(id)
	}
	if search {
		r.mu.Lock()
		r.searched = true
		r.mu.Unlock()
	}
}

// windDown takes a task in hand that no source wants.
func (r *Reconciler) windDown(t spec.Task, seen runtime.Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tasks[t.ID] != nil {
		return // a source came first
	}
	e := r.take(t)
	if seen.ID != "" {
		e.seen = seen
		r.hold(e)
	}
	e.fresh = false
	r.stop(e, spec.StopUserInitiated, "No source wants the task")
	r.add(t.ID)
	r.cfg.Logger.Info("a task that no source wants is wound down", "task", t.ID, "family", t.Family)
}

// forget removes what is kept of an ended task: logs, then records.
func (r *Reconciler) forget(id string) {
	if err := r.cfg.Forget(id); err != nil {
		r.cfg.Logger.Warn("the logs of an ended task cannot be removed; it is tried again", "task", id, "error", err)
		return
	}
	if err := r.cfg.Records.Remove(id); err != nil {
		r.cfg.Logger.Warn("the record of an ended task cannot be removed; it is tried again", "task", id, "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.tasks[id]; e != nil {
		e.forgotten = true
		if !e.wanted {
			r.dismiss(e)
		}
	}
}

// dismiss lets go of a task of which nothing is left. r.mu is held.
func (r *Reconciler) dismiss(e *entry) {
	for key := range e.retry {
		r.backoff.Forget(key)
	}
	delete(r.tasks, e.want.ID)
}
