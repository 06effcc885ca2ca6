package containerd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"ecsd/pkg/runtime"
)

// List implements runtime.Runtime. With ids it looks at each task closely; without, it asks
// containerd three questions in all, so that hundreds of tasks cost little.
//
// An exit that is seen here for the first time is written into the container's labels
// before List returns: containerd 2.x forgets it. When some tasks cannot be observed (a
// hung shim), those that can are returned together with an error that names the others.
func (r *Runtime) List(ctx context.Context, ids ...string) ([]runtime.Task, error) {
	if len(ids) == 0 {
		return r.listAll(ctx)
	}
	var found []runtime.Task
	var errs []error
	for _, id := range ids {
		if !isTaskID(id) {
			continue // cannot be known
		}
		t, err := r.look(ctx, id)
		if err != nil {
			errs = append(errs, fmt.Errorf("observe task %s: %w", id, err))
			continue
		}
		if t != nil {
			found = append(found, *t)
		}
	}
	return found, errors.Join(errs...)
}

// look observes one task; nil when nothing of it is there.
func (r *Runtime) look(ctx context.Context, id string) (*runtime.Task, error) {
	s, err := r.loadSandbox(id)
	if err != nil {
		return nil, err
	}
	records, err := r.records(ctx, id, s)
	if err != nil {
		return nil, err
	}
	processes := map[string]process{}
	for _, rec := range records {
		if processes[rec.ID], err = r.processOf(ctx, rec); err != nil {
			return nil, err
		}
	}
	ready := s != nil && r.sandboxReady(ctx, s)
	return r.assemble(ctx, id, s, ready, records, processes)
}

// listAll observes all tasks.
func (r *Runtime) listAll(ctx context.Context) ([]runtime.Task, error) {
	// Records first: one that is made after the processes were listed would look dead.
	records, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q", labelTask))
	if err != nil {
		return nil, err
	}
	response, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, errgrpc.ToNative(err)
	}
	listed := map[string]*tasktypes.Process{}
	for _, p := range response.Tasks {
		listed[p.ID] = p
	}
	byTask := map[string][]containers.Container{}
	for _, rec := range records {
		if id := taskOf(rec.ID); id != "" && id == rec.Labels[labelTask] {
			byTask[id] = append(byTask[id], rec)
		}
	}
	ids := slices.Collect(maps.Keys(byTask))
	withSandbox, err := r.sandboxes()
	if err != nil {
		return nil, err
	}
	ids = append(ids, withSandbox...)
	slices.Sort(ids)
	ids = slices.Compact(ids)

	var found []runtime.Task
	var errs []error
	for _, id := range ids {
		t, err := r.assembleListed(ctx, id, byTask[id], listed)
		if err != nil {
			errs = append(errs, fmt.Errorf("observe task %s: %w", id, err))
			continue
		}
		if t != nil {
			found = append(found, *t)
		}
	}
	return found, errors.Join(errs...)
}

func (r *Runtime) assembleListed(ctx context.Context, id string, records []containers.Container, listed map[string]*tasktypes.Process) (*runtime.Task, error) {
	s, err := r.loadSandbox(id)
	if err != nil {
		return nil, err
	}
	processes := map[string]process{}
	for _, rec := range records {
		p := listed[rec.ID]
		switch {
		case p != nil:
			if processes[rec.ID], err = r.interpret(rec, p); err != nil {
				return nil, err
			}
		case rec.Labels[labelStarted] != "" && rec.Labels[labelExit] == "" || rec.Labels[labelIndex] == indexInit:
			// The list leaves out, without a word, what it could not ask: a hung shim's.
			if processes[rec.ID], err = r.processOf(ctx, rec); err != nil {
				return nil, err
			}
		}
	}
	return r.assemble(ctx, id, s, s != nil && r.sandboxPresent(s), records, processes)
}

// assemble makes the observation of one task of what was found of it, and writes down
// exits that are new.
func (r *Runtime) assemble(ctx context.Context, id string, s *sandbox, ready bool, records []containers.Container, processes map[string]process) (*runtime.Task, error) {
	if s == nil && len(records) == 0 {
		return nil, nil
	}
	leaves, err := r.cgroups.Processes(id)
	if err != nil {
		return nil, err
	}
	now := r.c.Now()
	t := &runtime.Task{ID: id, Containers: map[string]runtime.Container{}, Sandbox: observedSandbox(s, ready)}
	if s != nil {
		t.Identity = s.Identity
	}
	blamed := 0 // OOM kills that this look has found the container of
	for _, rec := range records {
		if s == nil {
			t.Identity = identityOf(rec.Labels)
		}
		p := processes[rec.ID]
		if p.phase == phaseRunning || p.phase == phaseCreated {
			delete(leaves, rec.Labels[labelCgroup]) // accounted for
		}
		if rec.Labels[labelIndex] == indexInit {
			continue
		}
		c, unwritten := observe(recorded(rec), p, now)
		if unwritten {
			lost, err := r.unaccounted(id, records)
			if err != nil {
				return nil, err
			}
			before := c.OOMKills
			c = blame(c, lost-blamed)
			blamed += c.OOMKills - before
			r.noteExit(ctx, rec, c)
		}
		t.Containers[c.Name] = c
	}
	t.Processes = leaves.Total()
	return t, nil
}

// noteExit writes a newly seen exit down, unless somebody is changing the task right now:
// then what was seen may be of a run before, and whoever looks next will see it.
func (r *Runtime) noteExit(ctx context.Context, rec containers.Container, c runtime.Container) {
	unlock, ok := r.tasks.try(rec.Labels[labelTask])
	if !ok {
		return
	}
	defer unlock()
	// With the lock held nobody starts it again: is it still the run that was seen?
	again, err := r.client.ContainerService().Get(ctx, rec.ID)
	if err != nil || again.Labels[labelRestarts] != rec.Labels[labelRestarts] || again.Labels[labelStarted] != rec.Labels[labelStarted] || again.Labels[labelExit] != "" {
		return
	}
	if p, err := r.processOf(ctx, again); err != nil || p.phase == phaseRunning {
		return
	}
	if err := r.writeExit(ctx, rec.ID, c); err != nil {
		r.log.Warn("cannot write down how a container ended; it is tried again", "task", rec.Labels[labelTask], "container", c.Name, "error", err)
	}
}
