package containerd

import (
	"context"
	"errors"
	"os"
)

// sweep removes the control groups of tasks of which nothing else is left: what a crash
// between the first write of CreateSandbox and its record can leave when the task's record
// is lost too. Everything else that can be orphaned has a keeper: namespaces, interfaces and
// firewall rules are swept by the network when it opens, snapshots and content by
// containerd's collector once their lease has expired, and whatever has a sandbox record or
// a container is listed, and wound down by the reconciler.
func (r *Runtime) sweep(ctx context.Context) error {
	ids, err := r.cgroups.Tasks()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if isTaskID(id) {
			errs = append(errs, r.sweepTask(ctx, id))
		}
	}
	return errors.Join(errs...)
}

func (r *Runtime) sweepTask(ctx context.Context, id string) error {
	unlock, ok := r.tasks.try(id)
	if !ok {
		return nil // somebody works on it
	}
	defer unlock()
	if _, err := os.Stat(r.taskDir(id)); !errors.Is(err, os.ErrNotExist) {
		return err // it is known
	}
	records, err := r.records(ctx, id, nil)
	if err != nil || len(records) > 0 {
		return err
	}
	leaves, err := r.cgroups.Processes(id)
	if err != nil || leaves.Total() > 0 {
		return err // not dead: nothing of ours to judge
	}
	if err := r.cgroups.Remove(ctx, id); err != nil {
		return err
	}
	r.m.orphans.WithLabelValues("cgroup").Inc()
	r.log.Info("removed the control group of a task of which nothing else is left", "task", id)
	return r.dropLease(ctx, id)
}
