package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/moby/sys/signal"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"ecsd/pkg/runtime"
)

// StartContainer implements runtime.Runtime. The order of its writes is what makes it safe
// to repeat: see the package comment.
func (r *Runtime) StartContainer(ctx context.Context, task, name string) error {
	return r.onContainer(ctx, "start", task, name, r.start)
}

func (r *Runtime) start(ctx context.Context, rec containers.Container) error {
	p, err := r.processOf(ctx, rec)
	if err != nil {
		return err
	}
	now := r.c.Now()
	seen, unwritten := observe(recorded(rec), p, now)
	if seen.Live() {
		return nil
	}
	if seen.Exited() {
		// A run that nobody watches any more may not be over: never two at a time.
		leaves, err := r.cgroups.Processes(rec.Labels[labelTask])
		if err != nil {
			return err
		}
		if n := len(leaves[rec.Labels[labelCgroup]]); n > 0 {
			return fmt.Errorf("%d process(es) of its last run still live: %w", n, errdefs.ErrUnavailable)
		}
		if unwritten {
			if seen, err = r.blameOne(ctx, rec.Labels[labelTask], seen); err != nil {
				return err
			}
			if err := r.writeExit(ctx, rec.ID, seen); err != nil {
				return err
			}
		}
		if err := r.deleteTask(ctx, rec.ID, p.phase); err != nil {
			return err
		}
		if err := r.label(ctx, rec.ID, map[string]string{
			labelRestarts: strconv.Itoa(seen.Restarts + 1),
			labelStarted:  "", labelStopSignaled: "", labelExit: "",
			labelOOMKills: strconv.Itoa(oomKillsBefore(rec.Labels[labelOOMKills], seen, now)),
		}); err != nil {
			return err
		}
		p.phase = phaseNone
	}
	if p.phase == phaseNone {
		if err := r.createTask(ctx, rec); err != nil {
			return err
		}
	}
	if _, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: rec.ID}); err != nil {
		err = startFault(errgrpc.ToNative(err))
		// It is of no use any more, and its process must not be left.
		return errors.Join(err, r.deleteTask(context.WithoutCancel(ctx), rec.ID, phaseCreated))
	}
	return r.label(ctx, rec.ID, map[string]string{labelStarted: encodeTime(r.c.Now())})
}

// createTask makes a container's process, which waits to be started.
func (r *Runtime) createTask(ctx context.Context, rec containers.Container) error {
	request := &tasks.CreateTaskRequest{ContainerID: rec.ID}
	if rec.SnapshotKey != "" {
		mounts, err := r.client.SnapshotService(rec.Snapshotter).Mounts(ctx, rec.SnapshotKey)
		if err != nil {
			return fmt.Errorf("root filesystem: %w", err)
		}
		request.Rootfs = mount.ToProto(mounts)
	}
	var s specs.Spec
	if err := json.Unmarshal(rec.Spec.GetValue(), &s); err != nil {
		return fmt.Errorf("OCI spec of container %s: %w", rec.ID, err)
	}
	request.Terminal = s.Process != nil && s.Process.Terminal
	uri, err := r.logURI(rec, request.Terminal)
	if err != nil {
		return err
	}
	request.Stdout, request.Stderr = uri, uri
	if request.Terminal { // a terminal has one stream
		request.Stderr = ""
	}
	for try := 0; ; try++ {
		_, err = r.client.TaskService().Create(ctx, request)
		err = errgrpc.ToNative(err)
		if err == nil || try == createTries || !shimWentAway(err) {
			return startFault(err)
		}
		if err := pause(ctx, (10<<try)*time.Millisecond); err != nil {
			return err
		}
	}
}

// createTries is how often a process is tried to be made while the shim it needs is just
// ending, or containerd is still clearing away one that was killed: 310 ms in all.
const createTries = 5

// StopContainer implements runtime.Runtime: signal first, then the label.
func (r *Runtime) StopContainer(ctx context.Context, task, name string) error {
	return r.onContainer(ctx, "stop", task, name, func(ctx context.Context, rec containers.Container) error {
		if rec.Labels[labelStopSignaled] != "" || rec.Labels[labelExit] != "" {
			return nil
		}
		p, err := r.processOf(ctx, rec)
		if err != nil {
			return err
		}
		if p.phase != phaseRunning {
			return nil // created: there is nothing to stop; exited: it has stopped
		}
		number, err := stopSignal(rec.Labels[labelStopSignal])
		if err != nil {
			r.log.Warn("image's stop signal is not known, SIGTERM is sent", "task", task, "container", name, "signal", rec.Labels[labelStopSignal])
		}
		if err := r.signal(ctx, rec.ID, number, false); err != nil {
			return err
		}
		return r.label(ctx, rec.ID, map[string]string{labelStopSignaled: encodeTime(r.c.Now())})
	})
}

// KillContainer implements runtime.Runtime. Processes that containerd has lost track of are
// found by the container's cgroup and killed too.
func (r *Runtime) KillContainer(ctx context.Context, task, name string) error {
	return r.onContainer(ctx, "kill", task, name, func(ctx context.Context, rec containers.Container) error {
		p, err := r.processOf(ctx, rec)
		if err == nil && p.phase == phaseRunning {
			if err := r.signal(ctx, rec.ID, syscall.SIGKILL, true); err == nil {
				return nil
			}
		}
		// Stopped, forgotten, or behind a shim that does not answer: the kernel knows.
		return r.cgroups.Kill(task, rec.Labels[labelCgroup])
	})
}

// onContainer finds a container and works on it under its task's lock.
func (r *Runtime) onContainer(ctx context.Context, verb, task, name string, f func(context.Context, containers.Container) error) error {
	fail := func(err error) error { return fmt.Errorf("%s container %s of task %s: %w", verb, name, task, err) }
	if !isTaskID(task) {
		return fail(fmt.Errorf("no such task: %w", errdefs.ErrNotFound))
	}
	unlock, err := r.tasks.lock(ctx, task)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	rec, err := r.find(ctx, task, name)
	if err != nil {
		return fail(err)
	}
	if err := f(ctx, rec); err != nil {
		return fail(err)
	}
	return nil
}

// signal sends a signal to a container's process, or to all of them. A process that ended
// meanwhile is no error.
func (r *Runtime) signal(ctx context.Context, id string, number syscall.Signal, all bool) error {
	_, err := r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(number), All: all})
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// stopSignal reads a signal as images name it: "SIGQUIT", "QUIT" or "3". One that cannot be
// read is SIGTERM, and an error.
func stopSignal(name string) (syscall.Signal, error) {
	if name == "" {
		return syscall.SIGTERM, nil
	}
	number, err := signal.ParseSignal(name)
	if err != nil {
		return syscall.SIGTERM, err
	}
	return number, nil
}

// label changes some of a container's labels; "" removes one.
func (r *Runtime) label(ctx context.Context, id string, labels map[string]string) error {
	var paths []string
	for key := range labels {
		paths = append(paths, "labels."+key)
	}
	_, err := r.client.ContainerService().Update(ctx, containers.Container{ID: id, Labels: labels}, paths...)
	return err
}

// writeExit writes down how a run ended, before containerd forgets it.
func (r *Runtime) writeExit(ctx context.Context, id string, c runtime.Container) error {
	return r.label(ctx, id, map[string]string{
		labelStarted: encodeTime(c.Started),
		labelExit:    encodeExit(*c.Exit, c.OOMKills),
	})
}
