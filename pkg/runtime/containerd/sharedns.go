package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ecsd/pkg/runtime"
	"ecsd/pkg/runtime/containerd/cgroup"
	"ecsd/pkg/spec"
)

// A task with pidMode or ipcMode "task" has a hidden container, made with the sandbox: a
// small init of ours that holds the namespaces open, collects orphans, and is the only
// process a sandbox ever has. It has no image: its root filesystem is a directory with
// nothing but mount points and the init binary.

// initLeaf is the hidden container's cgroup. No container can have a name with a dot.
const initLeaf = "init.ecsd"

// ensureInit makes and starts the hidden container, if it does not run.
func (r *Runtime) ensureInit(ctx context.Context, t spec.Task) error {
	if r.c.InitBinary == "" {
		return runtime.NewTaskError(spec.CodeCannotCreateContainer, nil,
			"pidMode and ipcMode \"task\" need ecsd's init binary, which this agent was started without")
	}
	pid, err := r.initPID(ctx, t.ID)
	if err != nil || pid > 0 {
		return err
	}
	if err := r.removeInit(ctx, t.ID); err != nil { // one that died, or was half made
		return err
	}
	labels := identityLabels(t, "", indexInit)
	labels[labelCgroup] = r.initCgroupLeaf(t.ID)
	rec, err := r.record(initID(t.ID), r.initSpec(t), labels)
	if err != nil {
		return err
	}
	if _, err := r.client.ContainerService().Create(ctx, rec); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	_, err = r.client.TaskService().Create(ctx, &tasks.CreateTaskRequest{
		ContainerID: rec.ID,
		Rootfs:      []*types.Mount{{Type: "bind", Source: r.initRoot(), Options: []string{"rbind", "ro"}}},
	})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("start the process that holds the task's namespaces: %w", err)
	}
	_, err = r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: rec.ID})
	if err != nil {
		return fmt.Errorf("start the process that holds the task's namespaces: %w", errgrpc.ToNative(err))
	}
	return nil
}

func (r *Runtime) initRoot() string { return filepath.Join(r.c.RunDir, "init") }

// makeInitRoot makes the directory with the mount points, once for all tasks.
func (r *Runtime) makeInitRoot() error {
	for _, dir := range []string{"proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(r.initRoot(), dir), 0o755); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(r.initRoot(), "init"), os.O_RDONLY|os.O_CREATE, 0o755)
	if err != nil {
		return err
	}
	return f.Close()
}

func (r *Runtime) initCgroupLeaf(task string) string {
	return cgroup.Leaf(r.initCgroup(task))
}

func (r *Runtime) initCgroup(task string) string {
	host := r.specHost(task)
	if host.SystemdCgroup {
		return spec.TaskCgroup(task, host) + ":ecsd:" + initID(task)
	}
	return spec.TaskCgroup(task, host) + "/" + initLeaf
}

// initSpec is the OCI spec of the hidden container: as little as can be.
func (r *Runtime) initSpec(t spec.Task) *specs.Spec {
	s := &specs.Spec{
		Version: spec.OCIVersion,
		Root:    &specs.Root{Path: "rootfs", Readonly: true},
		Process: &specs.Process{
			Args: []string{"/init"}, Cwd: "/", NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755", "size=64k"}},
			{Destination: "/init", Type: "bind", Source: r.c.InitBinary, Options: []string{"bind", "ro", "nosuid", "nodev"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: r.initCgroup(t.ID),
			Namespaces:  []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}},
			MaskedPaths: []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"},
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				{Allow: false, Access: "rwm"},
			}},
		},
	}
	annotate(s, t.ID)
	return s
}

// initPID is the hidden container's process; 0 when it does not run.
func (r *Runtime) initPID(ctx context.Context, task string) (int, error) {
	response, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: initID(task)})
	if err != nil {
		if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
			return 0, nil
		}
		return 0, err
	}
	rec, err := r.client.ContainerService().Get(ctx, initID(task))
	if err != nil {
		return 0, err
	}
	p, err := r.interpret(rec, response.Process)
	if err != nil || p.phase != phaseRunning {
		return 0, err
	}
	return p.pid, nil
}

// removeInit takes the hidden container away.
func (r *Runtime) removeInit(ctx context.Context, task string) error {
	id := initID(task)
	rec, err := r.client.ContainerService().Get(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := r.processOf(ctx, rec)
	if err != nil {
		return err
	}
	if p.phase == phaseRunning {
		p.phase = phaseCreated // it is ours to kill, like one that has not begun
	}
	if err := r.deleteTask(ctx, id, p.phase); err != nil {
		return err
	}
	return r.removeContainer(ctx, rec)
}

// shmDir is where the containers of a task with ipcMode "task" have their /dev/shm.
func (r *Runtime) shmDir(task string) string { return filepath.Join(r.c.RunDir, "shm", task) }

// makeShm mounts it: the largest size that a container of the task asks for, or Docker's
// 64 MiB.
func (r *Runtime) makeShm(t spec.Task) error {
	dir := r.shmDir(t.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if mountPoint(dir) {
		return nil
	}
	mib := 64
	for _, c := range t.Definition.ContainerDefinitions {
		if c.LinuxParameters != nil && c.LinuxParameters.SharedMemorySize != nil {
			mib = max(mib, *c.LinuxParameters.SharedMemorySize)
		}
	}
	return unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size="+strconv.Itoa(mib)+"m")
}

func (r *Runtime) removeShm(task string) error {
	dir := r.shmDir(task)
	for mountPoint(dir) {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// mountPoint reports whether another file system begins at a directory.
func mountPoint(dir string) bool {
	var here, above unix.Stat_t
	if unix.Lstat(dir, &here) != nil || unix.Lstat(filepath.Dir(dir), &above) != nil {
		return false
	}
	return here.Dev != above.Dev
}
