package containerd

import (
	"context"

	"github.com/containerd/containerd/v2/core/containers"
	"golang.org/x/sys/unix"

	"ecsd/pkg/runtime"
)

// The kernel's count of OOM kills belongs to the container's group. Where systemd owns the
// tree that group is gone, count and all, as soon as its last process is, which is before
// anybody can look. The group of the task has counted too, and lasts: what none of the
// task's containers accounts for is of the container whose end was just seen.

// unaccounted is how many OOM kills of a task are in none of its containers' counts: those
// of earlier runs, of an end that is written down, or of a group that still is there.
func (r *Runtime) unaccounted(task string, records []containers.Container) (int, error) {
	lost, err := r.cgroups.TaskOOMKills(task) // first: what happens meanwhile is in both, or in the other
	if err != nil || lost == 0 {
		return 0, err
	}
	for _, rec := range records {
		lost -= atoi(rec.Labels[labelOOMKills])
		if c := recorded(rec); c.Exited() {
			lost -= c.OOMKills
			continue
		}
		n, err := r.cgroups.OOMKills(task, rec.Labels[labelCgroup])
		if err != nil {
			return 0, err
		}
		lost -= n
	}
	return max(lost, 0), nil
}

// blame gives a container that was just seen to have ended the kills that nobody accounts
// for, unless its own group could still be read. Pure.
func blame(c runtime.Container, lost int) runtime.Container {
	if lost <= 0 || c.OOMKills > 0 || c.Exit == nil {
		return c
	}
	exit := *c.Exit
	c.OOMKills = lost
	exit.OOMKilled = exit.Code != nil && *exit.Code == 128+int(unix.SIGKILL)
	c.Exit = &exit
	return c
}

// blameOne is blame for one container of a task of which only its record is at hand.
func (r *Runtime) blameOne(ctx context.Context, task string, c runtime.Container) (runtime.Container, error) {
	records, err := r.records(ctx, task, nil)
	if err != nil {
		return c, err
	}
	lost, err := r.unaccounted(task, records)
	return blame(c, lost), err
}

// oomKillsBefore is the label's next value when a container that ended like this is run
// again. A reboot makes the task's group, and its count, anew.
func oomKillsBefore(label string, c runtime.Container, now runtime.Time) int {
	if c.Started.Boot != now.Boot {
		return 0
	}
	return atoi(label) + c.OOMKills
}
