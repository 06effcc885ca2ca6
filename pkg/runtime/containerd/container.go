package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ecsd/pkg/runtime"
	"ecsd/pkg/runtime/containerd/cgroup"
	"ecsd/pkg/spec"
)

const (
	nonblock = unix.O_NONBLOCK

	runcRuntime = "io.containerd.runc.v2"
	// groupAnnotation puts containers with one value into one shim.
	groupAnnotation = "io.containerd.runc.v2.group"
)

// CreateContainer implements runtime.Runtime: a snapshot of the image to write on, under
// the task's lease, and containerd's record with the OCI spec and the labels. No process
// is made yet.
func (r *Runtime) CreateContainer(ctx context.Context, t spec.Task, c runtime.CreateConfig) error {
	fail := func(err error) error { return fmt.Errorf("create container %s of task %s: %w", c.Name, t.ID, err) }
	if !isTaskID(t.ID) {
		return fail(fmt.Errorf("not a task id: %w", errdefs.ErrInvalidArgument))
	}
	index := slices.IndexFunc(t.Definition.ContainerDefinitions, func(d spec.ContainerDefinition) bool { return d.Name == c.Name })
	if index < 0 {
		return fail(fmt.Errorf("the definition has no container of that name: %w", errdefs.ErrNotFound))
	}
	unlock, err := r.tasks.lock(ctx, t.ID)
	if err != nil {
		return fail(err)
	}
	defer unlock()

	id := containerID(t.ID, index)
	hash := spec.ContainerHash(t.Definition, c.Name)
	switch rec, err := r.client.ContainerService().Get(ctx, id); {
	case err == nil && rec.Labels[labelSpecHash] == hash:
		return nil
	case err == nil:
		return fail(fmt.Errorf("it exists with another definition (%.12s, not %.12s): %w", rec.Labels[labelSpecHash], hash, errdefs.ErrFailedPrecondition))
	case !errdefs.IsNotFound(err):
		return fail(err)
	}
	s, err := r.loadSandbox(t.ID)
	if err != nil {
		return fail(err)
	}
	if s == nil || !s.Complete || s.Boot != r.c.Now().Boot {
		return fail(fmt.Errorf("the task has no sandbox: %w", errdefs.ErrFailedPrecondition))
	}
	if err := r.underLease(ctx, t.ID, func(ctx context.Context) error {
		return r.createContainer(ctx, t, index, c, s, hash)
	}); err != nil {
		return fail(err)
	}
	return nil
}

func (r *Runtime) createContainer(ctx context.Context, t spec.Task, index int, c runtime.CreateConfig, s *sandbox, hash string) error {
	def := t.Definition.ContainerDefinitions[index]
	id := containerID(t.ID, index)
	info, err := r.pulledImage(ctx, c.Image)
	if err != nil {
		return err
	}
	initPID := 0
	if s.SharedPID || s.SharedIPC {
		if initPID, err = r.initPID(ctx, t.ID); err != nil {
			return err
		}
		if initPID == 0 {
			return fmt.Errorf("the process that holds the task's namespaces is gone: %w", errdefs.ErrFailedPrecondition)
		}
	}
	host, err := r.containerHost(t, index, s, initPID)
	if err != nil {
		return err
	}
	host.Env = c.Env
	rendered, err := spec.OCI(t, c.Name, info.config, host)
	if err != nil {
		return definitionFault(err)
	}
	annotate(rendered, t.ID)

	labels := identityLabels(t, c.Name, fmt.Sprint(index))
	labels[labelSpecHash] = hash
	labels[labelImage] = bounded(c.Image.Ref)
	labels[labelDigest] = c.Image.Digest
	labels[labelStopSignal] = spec.StopSignal(def, info.config)
	labels[labelCgroup] = cgroup.Leaf(rendered.Linux.CgroupsPath)
	labels[labelLog] = r.logLabel(def.LogConfiguration)
	labels[labelCreated] = encodeTime(r.c.Now())
	if skipped := addDockerLabels(labels, def.DockerLabels); len(skipped) > 0 {
		r.log.Warn("docker labels are left out: too long for containerd, or reserved", "task", t.ID, "container", c.Name, "labels", skipped)
	}
	rec, err := r.record(id, rendered, labels)
	if err != nil {
		return err
	}
	rec.Image = imageName(c.Image.Ref)
	if rec.Snapshotter, err = r.snapshotterName(ctx); err != nil {
		return err
	}
	rec.SnapshotKey = id
	if err := r.prepare(ctx, rec.Snapshotter, id, info); err != nil {
		return err
	}
	_, err = r.client.ContainerService().Create(ctx, rec)
	return err
}

// record makes containerd's record of a container.
func (r *Runtime) record(id string, s *specs.Spec, labels map[string]string) (containers.Container, error) {
	marshalled, err := typeurl.MarshalAny(s)
	if err != nil {
		return containers.Container{}, err
	}
	opts, err := typeurl.MarshalAny(&options.Options{
		BinaryName:    r.ociPath,
		SystemdCgroup: r.cgroups.Mode() == cgroup.V2Systemd,
	})
	if err != nil {
		return containers.Container{}, err
	}
	return containers.Container{
		ID: id, Labels: labels, Spec: marshalled,
		Runtime: containers.RuntimeInfo{Name: runcRuntime, Options: opts},
	}, nil
}

// annotate says which shim a container belongs to, and to systemd, where it owns the
// container's group, that a scope goes when its processes have gone. By default systemd
// keeps one that failed, by an OOM kill for instance; runc before 1.1.6 finds it at the next
// run, takes the scope for made, and leaves the new process in the shim's group, without
// its limits and unseen by those who count the processes of the task.
func annotate(s *specs.Spec, task string) {
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[groupAnnotation] = task
	if s.Linux != nil && strings.HasPrefix(s.Linux.CgroupsPath, spec.SlicePrefix("")) {
		s.Annotations["org.systemd.property.CollectMode"] = "'inactive-or-failed'"
	}
}

func bounded(s string) string {
	if len(s) > maxLabel/2 {
		return s[:maxLabel/2]
	}
	return s
}

// prepare makes the snapshot a container writes on. One that is there already is of a call
// that crashed before it wrote the record: nothing has run on it.
func (r *Runtime) prepare(ctx context.Context, snapshotter, key string, info *imageInfo) error {
	_, err := r.client.SnapshotService(snapshotter).Prepare(ctx, key, info.chain)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if errdefs.IsNotFound(err) {
		r.images.drop(info.digest) // somebody removed it behind our back: look again next time
	}
	return err
}

// pulledImage finds an image that Pull has made available. It is an ErrNotFound, and worth
// another Pull, when somebody has removed it since.
func (r *Runtime) pulledImage(ctx context.Context, image runtime.Image) (*imageInfo, error) {
	if info := r.images.get(image.Digest); info != nil {
		return info, nil
	}
	rec, err := r.client.ImageService().Get(ctx, imageName(image.Ref))
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image.Ref, err)
	}
	if rec.Target.Digest.String() != image.Digest {
		// The reference has moved on; the content of the older one may still be here.
		info, err := r.client.ContentStore().Info(ctx, digestOf(image.Digest))
		if err != nil {
			return nil, fmt.Errorf("image %s now is %s, no longer %s: %w", image.Ref, rec.Target.Digest, image.Digest, err)
		}
		rec.Target = ocispec.Descriptor{MediaType: rec.Target.MediaType, Digest: info.Digest, Size: info.Size}
	}
	return r.imageInfo(ctx, rec.Target)
}

// definitionFault turns an error of pkg/spec into one that says it is final.
func definitionFault(err error) error {
	if oe, ok := spec.AsOCIError(err); ok {
		return runtime.NewTaskError(oe.Code, err, "%s: %s", oe.Field, oe.Message)
	}
	return err
}

// RemoveContainer implements runtime.Runtime. A container that has a process without
// running (a start that crashed half-way) is killed first: it has not begun.
func (r *Runtime) RemoveContainer(ctx context.Context, task, name string) error {
	if !isTaskID(task) {
		return nil
	}
	unlock, err := r.tasks.lock(ctx, task)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := r.find(ctx, task, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = r.removeContainer(ctx, rec)
	}
	if err != nil {
		return fmt.Errorf("remove container %s of task %s: %w", name, task, err)
	}
	return nil
}

func (r *Runtime) removeContainer(ctx context.Context, rec containers.Container) error {
	p, err := r.processOf(ctx, rec)
	if err != nil {
		return err
	}
	if p.phase == phaseRunning {
		return fmt.Errorf("it is live: %w", errdefs.ErrFailedPrecondition)
	}
	if err := r.deleteTask(ctx, rec.ID, p.phase); err != nil {
		return err
	}
	task, leaf := rec.Labels[labelTask], rec.Labels[labelCgroup]
	if leaf != "" {
		// What containerd lost track of may still run in there.
		leaves, err := r.cgroups.Processes(task)
		if err != nil {
			return err
		}
		if n := len(leaves[leaf]); n > 0 {
			if err := r.cgroups.Kill(task, leaf); err != nil {
				return err
			}
			return fmt.Errorf("it still has %d process(es), which were killed just now; try again: %w", n, errdefs.ErrUnavailable)
		}
		if err := r.cgroups.RemoveLeaf(task, leaf); err != nil {
			return err
		}
	}
	if rec.SnapshotKey != "" {
		err := r.client.SnapshotService(rec.Snapshotter).Remove(ctx, rec.SnapshotKey)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if err := r.client.ContainerService().Delete(ctx, rec.ID); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err := os.RemoveAll(r.execDir(rec.ID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// find gives the record of a task's container by name.
func (r *Runtime) find(ctx context.Context, task, name string) (containers.Container, error) {
	s, err := r.loadSandbox(task)
	if err != nil {
		return containers.Container{}, err
	}
	if s != nil {
		if i := slices.Index(s.Containers, name); i >= 0 {
			return r.client.ContainerService().Get(ctx, containerID(task, i))
		}
	}
	list, err := r.client.ContainerService().List(ctx, taskFilter(task))
	if err != nil {
		return containers.Container{}, err
	}
	for _, rec := range list {
		if rec.Labels[labelName] == name && rec.Labels[labelIndex] != indexInit {
			return rec, nil
		}
	}
	return containers.Container{}, fmt.Errorf("task %s has no container %q: %w", task, name, errdefs.ErrNotFound)
}

// taskFilter selects a task's containers in containerd.
func taskFilter(task string) string {
	return fmt.Sprintf(`labels.%q==%s`, labelTask, strings.ToLower(task))
}

// records gives the records of a task's containers, the hidden one too. With a sandbox
// record the ids are known, and each is fetched: with many containers on the machine that
// is far cheaper than to let containerd search.
func (r *Runtime) records(ctx context.Context, task string, s *sandbox) ([]containers.Container, error) {
	if s == nil {
		return r.client.ContainerService().List(ctx, taskFilter(task))
	}
	var ids []string
	for i := range s.Containers {
		ids = append(ids, containerID(task, i))
	}
	if s.SharedPID || s.SharedIPC {
		ids = append(ids, initID(task))
	}
	var found []containers.Container
	for _, id := range ids {
		rec, err := r.client.ContainerService().Get(ctx, id)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, rec)
	}
	return found, nil
}
