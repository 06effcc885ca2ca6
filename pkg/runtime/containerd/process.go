package containerd

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"

	"ecsd/pkg/runtime"
)

// processOf asks containerd for a container's process.
func (r *Runtime) processOf(ctx context.Context, rec containers.Container) (process, error) {
	response, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: rec.ID})
	if err != nil {
		err = errgrpc.ToNative(err)
		if errdefs.IsNotFound(err) {
			return process{}, nil
		}
		return process{}, err
	}
	return r.interpret(rec, response.Process)
}

// interpret reads containerd's answer. UNKNOWN is what it says, without an error, of a
// shim that does not answer: that is an error here, since it must never be taken for dead.
func (r *Runtime) interpret(rec containers.Container, p *tasktypes.Process) (process, error) {
	switch p.Status {
	case tasktypes.Status_CREATED:
		return process{phase: phaseCreated, pid: int(p.Pid)}, nil
	case tasktypes.Status_RUNNING, tasktypes.Status_PAUSED, tasktypes.Status_PAUSING:
		out := process{phase: phaseRunning, pid: int(p.Pid)}
		if rec.Labels[labelStarted] == "" {
			out.started = processStart(out.pid, r.c.Now())
		}
		var err error
		out.oomKills, err = r.cgroups.OOMKills(rec.Labels[labelTask], rec.Labels[labelCgroup])
		return out, err
	case tasktypes.Status_STOPPED:
		out := process{phase: phaseStopped}
		var err error
		if out.oomKills, err = r.cgroups.OOMKills(rec.Labels[labelTask], rec.Labels[labelCgroup]); err != nil {
			return process{}, err
		}
		var wall time.Time
		if p.ExitedAt != nil {
			wall = p.ExitedAt.AsTime()
		}
		code := int(p.ExitStatus)
		out.exit = runtime.Exit{
			Code: &code,
			At:   at(wall, r.c.Now(), decodeTime(rec.Labels[labelStarted])),
			// SIGKILL without an OOM kill in its group is somebody's, not the kernel's.
			OOMKilled: out.oomKills > 0 && code == 128+int(unix.SIGKILL),
		}
		return out, nil
	}
	return process{}, fmt.Errorf("container %s: its shim does not answer (status %s): %w", rec.ID, p.Status, errdefs.ErrUnavailable)
}

// processStart is when the kernel started a process, from /proc/<pid>/stat; zero when
// there is none.
func processStart(pid int, now runtime.Time) runtime.Time {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return runtime.Time{}
	}
	// The second field is the command in parentheses and may hold anything.
	_, after, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(after)
	if !ok || len(fields) < 20 {
		return runtime.Time{}
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64) // field 22, in hundredths of a second since boot
	if err != nil {
		return runtime.Time{}
	}
	started := time.Duration(ticks) * (time.Second / 100)
	if started > now.At {
		return now
	}
	return now.Add(started - now.At)
}

// deleteTask removes containerd's task of a container that does not run. Its exit must
// have been written down before. A task that was made and not started is killed: its
// process has not begun.
func (r *Runtime) deleteTask(ctx context.Context, id string, p phase) error {
	service := r.client.TaskService()
	if p == phaseNone {
		return nil
	}
	if p == phaseCreated {
		if _, err := service.Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(unix.SIGKILL), All: true}); err != nil {
			if err = errgrpc.ToNative(err); !errdefs.IsNotFound(err) {
				return err
			}
		}
	}
	var err error
	for range 50 { // a killed task that was never started needs some milliseconds to be seen as stopped
		_, err = service.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
		err = errgrpc.ToNative(err)
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		if p != phaseCreated || !errdefs.IsFailedPrecondition(err) || pause(ctx, 5*time.Millisecond) != nil {
			break
		}
	}
	return err
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
