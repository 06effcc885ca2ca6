package containerd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"ecsd/pkg/runtime"
	"ecsd/pkg/runtime/containerd/cgroup"
	"ecsd/pkg/runtime/containerd/network"
	"ecsd/pkg/spec"
)

// CreateSandbox implements runtime.Runtime: directory, cgroup with the task's limits,
// lease, network, and the files under /etc that its containers mount. Called again it
// looks whether all is in place and makes what is missing; running containers keep their
// namespaces.
func (r *Runtime) CreateSandbox(ctx context.Context, t spec.Task) error {
	if !isTaskID(t.ID) {
		return fmt.Errorf("create sandbox: task id %q is not 32 lower-case hex digits: %w", t.ID, errdefs.ErrInvalidArgument)
	}
	unlock, err := r.tasks.lock(ctx, t.ID)
	if err != nil {
		return err
	}
	defer unlock()
	have, err := r.loadSandbox(t.ID)
	if err != nil {
		return err
	}
	now := r.c.Now()
	if have != nil && have.Boot != now.Boot {
		have = nil // of before the last restart of the machine: all that it names is gone
	}
	if have != nil && r.sandboxReady(ctx, have) {
		return nil
	}
	if err := r.makeSandbox(ctx, t, have, now); err != nil {
		return fmt.Errorf("create sandbox of task %s: %w", t.ID, err)
	}
	return nil
}

func (r *Runtime) makeSandbox(ctx context.Context, t spec.Task, have *sandbox, now runtime.Time) error {
	if err := os.MkdirAll(r.taskDir(t.ID), 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(r.logDir(t.ID), 0o755); err != nil {
		return err
	}
	s := &sandbox{
		Boot: now.Boot, Task: t.ID, NetworkMode: networkMode(t),
		Identity:    identityOf(identityLabels(t, "", "")),
		Attachments: map[string]network.Attachment{},
		SharedPID:   t.Definition.PIDMode == "task",
		SharedIPC:   t.Definition.IPCMode == "task",
	}
	for _, c := range t.Definition.ContainerDefinitions {
		s.Containers = append(s.Containers, c.Name)
	}
	if have != nil {
		maps.Copy(s.Attachments, have.Attachments)
	}

	// The three that take time are independent of one another.
	var wg sync.WaitGroup
	var cgroupErr, leaseErr, networkErr error
	wg.Go(func() {
		cgroupErr = r.cgroups.Create(ctx, t.ID, spec.TaskResources(t, r.specHost(t.ID)))
	})
	wg.Go(func() { leaseErr = r.ensureLease(ctx, t.ID) })
	wg.Go(func() { networkErr = r.attach(ctx, t, s) })
	wg.Wait()
	// What was attached is written down even when the rest failed: it must be found again.
	if err := errors.Join(cgroupErr, leaseErr, networkErr); err != nil {
		return errors.Join(err, r.saveSandbox(s))
	}
	if err := r.writeEtc(t, s); err != nil {
		return errors.Join(err, r.saveSandbox(s))
	}
	if s.SharedIPC {
		if err := r.makeShm(t); err != nil {
			return errors.Join(err, r.saveSandbox(s))
		}
	}
	if s.SharedPID || s.SharedIPC {
		if err := r.ensureInit(ctx, t); err != nil {
			return errors.Join(err, r.saveSandbox(s))
		}
	}
	s.Complete = true
	return r.saveSandbox(s)
}

// networkMode is a task's network mode with ECS's default.
func networkMode(t spec.Task) string {
	if t.Definition.NetworkMode == "" {
		return "bridge"
	}
	return t.Definition.NetworkMode
}

// attachRequests are the namespaces a task needs, by container name, "" for one of the
// whole task. Pure.
func attachRequests(t spec.Task) map[string]network.Request {
	requests := map[string]network.Request{}
	switch networkMode(t) {
	case "host":
	case "awsvpc":
		requests[""] = network.Request{ID: t.ID}
	case "none":
		for i, c := range t.Definition.ContainerDefinitions {
			requests[c.Name] = network.Request{ID: containerID(t.ID, i), Loopback: true}
		}
	default:
		for i, c := range t.Definition.ContainerDefinitions {
			if c.DisableNetworking != nil && *c.DisableNetworking {
				requests[c.Name] = network.Request{ID: containerID(t.ID, i), Loopback: true}
				continue
			}
			request := network.Request{ID: containerID(t.ID, i)}
			for _, p := range c.PortMappings {
				request.Ports = append(request.Ports, network.PortRequest{
					ContainerPort: uint16(p.ContainerPort), HostPort: uint16(p.HostPort),
					Protocol: p.Protocol, Range: p.ContainerPortRange,
				})
			}
			requests[c.Name] = request
		}
	}
	return requests
}

// attach makes the task's namespaces and puts them into s. On failure those made by this
// call and not there before are taken back, so that a task that waits for a port holds
// none of its other ports meanwhile.
func (r *Runtime) attach(ctx context.Context, t spec.Task, s *sandbox) error {
	requests := attachRequests(t)
	var fresh []string
	var failed error
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		var previous *network.Attachment
		if a, ok := s.Attachments[name]; ok {
			previous = &a
		}
		a, err := r.network.Attach(ctx, requests[name], previous)
		if err != nil {
			if name != "" {
				err = fmt.Errorf("network of container %s: %w", name, err)
			}
			failed = err
			break
		}
		if previous == nil {
			fresh = append(fresh, name)
		}
		s.Attachments[name] = a
	}
	if failed == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	for _, name := range fresh {
		if err := r.network.Detach(ctx, s.Attachments[name]); err != nil {
			failed = errors.Join(failed, err) // stays in s, and is found again
			continue
		}
		delete(s.Attachments, name)
	}
	return failed
}

// sandboxReady reports whether all of a sandbox is in place.
func (r *Runtime) sandboxReady(ctx context.Context, s *sandbox) bool {
	if !r.sandboxPresent(s) {
		return false
	}
	for name, a := range s.Attachments {
		if err := r.network.Check(ctx, a); err != nil {
			r.log.Info("sandbox needs repair", "task", s.Task, "container", name, "reason", err)
			return false
		}
	}
	if s.SharedPID || s.SharedIPC {
		if pid, err := r.initPID(ctx, s.Task); err != nil || pid == 0 {
			return false
		}
	}
	return true
}

// sandboxPresent is the part of sandboxReady that costs next to nothing: for looks at all
// tasks at once.
func (r *Runtime) sandboxPresent(s *sandbox) bool {
	if !s.Complete || s.Boot != r.c.Now().Boot || !r.cgroups.Exists(s.Task) {
		return false
	}
	for _, a := range s.Attachments {
		if _, err := os.Lstat(a.Namespace); err != nil {
			return false
		}
	}
	return true
}

// observedSandbox is a sandbox as List reports it.
func observedSandbox(s *sandbox, ready bool) *runtime.Sandbox {
	if s == nil {
		return nil
	}
	o := &runtime.Sandbox{NetworkMode: s.NetworkMode, Networks: map[string]runtime.Network{}, Ready: ready}
	for name, a := range s.Attachments {
		o.Networks[name] = runtime.Network{
			Namespace: a.Namespace, IPv4: a.IPv4, IPv6: a.IPv6, Ports: slices.Clone(a.Ports),
		}
	}
	return o
}

// RemoveSandbox implements runtime.Runtime. Processes that are left in the task's cgroup
// are killed; the removal then has to be asked for again when they are gone. It leaves the
// task's records, and its logs, which RemoveLogs removes.
func (r *Runtime) RemoveSandbox(ctx context.Context, task string) error {
	if !isTaskID(task) {
		return nil // nothing of ours can have such an id
	}
	unlock, err := r.tasks.lock(ctx, task)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := r.loadSandbox(task)
	if err != nil {
		return err
	}
	if err := r.removeSandbox(ctx, task, s); err != nil {
		return fmt.Errorf("remove sandbox of task %s: %w", task, err)
	}
	return nil
}

func (r *Runtime) removeSandbox(ctx context.Context, task string, s *sandbox) error {
	records, err := r.records(ctx, task, s)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if rec.ID != initID(task) {
			return fmt.Errorf("container %s still exists: %w", rec.Labels[labelName], errdefs.ErrFailedPrecondition)
		}
	}
	if err := r.removeInit(ctx, task); err != nil {
		return err
	}
	leaves, err := r.cgroups.Processes(task)
	if err != nil {
		return err
	}
	if n := leaves.Total(); n > 0 {
		if err := r.cgroups.Kill(task, ""); err != nil {
			return err
		}
		// They are gone in a moment; most are gone by the next line.
		if leaves, err = r.cgroups.Processes(task); err == nil && leaves.Total() > 0 {
			return fmt.Errorf("%w; they were killed just now, try again: %w",
				&cgroup.BusyError{Task: task, Processes: leaves.Total()}, errdefs.ErrUnavailable)
		}
	}
	if s != nil {
		if s.Boot == r.c.Now().Boot {
			for _, name := range slices.Sorted(maps.Keys(s.Attachments)) {
				if err := r.network.Detach(ctx, s.Attachments[name]); err != nil {
					return err
				}
			}
		}
	}
	if err := r.removeShm(task); err != nil {
		return err
	}
	if err := r.dropLease(ctx, task); err != nil {
		return err
	}
	for _, dir := range []string{"etc", "volumes"} {
		if err := r.discard(filepath.Join(r.taskDir(task), dir)); err != nil {
			return err
		}
	}
	if err := r.cgroups.Remove(ctx, task); err != nil {
		return err
	}
	if err := os.Remove(r.sandboxFile(task)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// Empty directories go too; one with records in it stays.
	_ = os.Remove(r.taskDir(task))
	return nil
}

// RemoveLogs removes the log files of a task's containers. They outlive the sandbox, so
// that one can read why a task ended. Absent ones are nil.
func (r *Runtime) RemoveLogs(_ context.Context, task string) error {
	if !isTaskID(task) {
		return nil
	}
	return os.RemoveAll(r.logDir(task))
}
