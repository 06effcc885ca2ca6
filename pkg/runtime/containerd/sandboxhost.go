package containerd

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ecsd/pkg/runtime"
	"ecsd/pkg/runtime/containerd/cgroup"
	"ecsd/pkg/spec"
)

// specHost is the machine as pkg/spec wants to know it, as far as it is the same for all
// containers of a task.
func (r *Runtime) specHost(string) spec.Host {
	var nofile unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &nofile); err != nil {
		nofile.Max = 65536
	}
	return spec.Host{
		Arch:               goarch,
		Hostname:           r.host.hostname,
		CgroupV2:           r.cgroups.Mode() != cgroup.V1,
		SystemdCgroup:      r.cgroups.Mode() == cgroup.V2Systemd,
		CgroupParent:       r.c.CgroupParent,
		AppArmorProfile:    r.c.AppArmor,
		SeccompArches:      r.c.SeccompArches,
		Capabilities:       r.host.capabilities,
		InitBinary:         r.c.InitBinary,
		SwapAccounting:     r.host.swapAccounting,
		PidsLimit:          r.c.PidsLimit,
		TaskPidsLimit:      r.c.TaskPidsLimit,
		PrivilegedDisabled: r.c.NoPrivileged,
		Ulimits:            spec.DefaultUlimits(nofile.Max),
	}
}

// containerHost is specHost with what the sandbox gives one container: namespaces, files,
// volumes, devices.
func (r *Runtime) containerHost(t spec.Task, index int, s *sandbox, initPID int) (spec.Host, error) {
	c := t.Definition.ContainerDefinitions[index]
	h := r.specHost(t.ID)
	a, ok := s.Attachments[c.Name]
	if !ok {
		a = s.Attachments[""]
	}
	h.NetworkNamespace = a.Namespace
	if initPID > 0 {
		if s.SharedPID {
			h.PIDNamespace = "/proc/" + strconv.Itoa(initPID) + "/ns/pid"
		}
		if s.SharedIPC {
			h.IPCNamespace = "/proc/" + strconv.Itoa(initPID) + "/ns/ipc"
			h.ShmPath = r.shmDir(t.ID)
		}
	}
	h.Etc = r.etcFiles(t.ID, index)
	var err error
	if h.Volumes, err = r.volumes(t, c); err != nil {
		return h, err
	}
	h.Devices, err = devices(c)
	return h, err
}

// volumes makes sure that the volumes a container mounts exist, and gives their paths.
// A path of the host that does not exist is made as a directory, as Docker and ECS do.
func (r *Runtime) volumes(t spec.Task, c spec.ContainerDefinition) (map[string]string, error) {
	paths := map[string]string{}
	for _, v := range t.Definition.Volumes {
		if !mounts(t, c, v.Name, nil) {
			continue
		}
		switch {
		case v.EFSVolumeConfiguration != nil, v.S3FilesVolumeConfiguration != nil, v.FSxWindowsFileServerVolumeConfiguration != nil:
			return nil, runtime.NewTaskError(spec.CodeCannotCreateContainer, nil,
				"volume %s: remote file systems are not carried out yet; use a host path or a task volume", v.Name)
		case v.DockerVolumeConfiguration != nil && v.DockerVolumeConfiguration.Scope == "shared":
			return nil, runtime.NewTaskError(spec.CodeCannotCreateContainer, nil,
				"volume %s: shared docker volumes are not carried out yet; use a host path", v.Name)
		case v.Host != nil && v.Host.SourcePath != "":
			path := filepath.Clean(v.Host.SourcePath)
			if !filepath.IsAbs(path) {
				return nil, runtime.NewTaskError(spec.CodeCannotCreateContainer, nil,
					"volume %s: sourcePath %q is not an absolute path", v.Name, v.Host.SourcePath)
			}
			if _, err := os.Stat(path); os.IsNotExist(err) {
				if err := os.MkdirAll(path, 0o755); err != nil {
					return nil, runtime.NewTaskError(spec.CodeCannotCreateContainer, err,
						"volume %s: %s does not exist and cannot be made: %v", v.Name, path, err)
				}
			}
			paths[v.Name] = path
		default:
			dir := filepath.Join(r.taskDir(t.ID), "volumes", fileName(v.Name))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
			paths[v.Name] = dir
		}
	}
	return paths, nil
}

// mounts reports whether a container mounts a volume, itself or through volumesFrom.
func mounts(t spec.Task, c spec.ContainerDefinition, volume string, seen []string) bool {
	for _, m := range c.MountPoints {
		if m.SourceVolume == volume {
			return true
		}
	}
	for _, from := range c.VolumesFrom {
		other, ok := t.Container(from.SourceContainer)
		if ok && !slices.Contains(seen, other.Name) && mounts(t, other, volume, append(seen, c.Name)) {
			return true
		}
	}
	return false
}

// devices looks up the device nodes a container asks for: all of /dev for a privileged one.
func devices(c spec.ContainerDefinition) (map[string]spec.HostDevice, error) {
	found := map[string]spec.HostDevice{}
	if c.Privileged != nil && *c.Privileged {
		addDevices(found, "/dev", 0)
		return found, nil
	}
	if c.LinuxParameters == nil {
		return found, nil
	}
	for _, d := range c.LinuxParameters.Devices {
		addDevices(found, filepath.Clean(d.HostPath), 0)
	}
	return found, nil // one that does not exist is missed, and named, by spec.OCI
}

// addDevices adds a device node, or those in a directory. Links are followed for the path
// itself, not below it.
func addDevices(found map[string]spec.HostDevice, path string, depth int) {
	var st unix.Stat_t
	stat := unix.Stat
	if depth > 0 {
		stat = unix.Lstat
	}
	if err := stat(path, &st); err != nil || depth > 8 {
		return
	}
	d := spec.HostDevice{
		Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		Mode: os.FileMode(st.Mode & 0o777), UID: st.Uid, GID: st.Gid,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	case unix.S_IFDIR:
		switch path {
		case "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd": // containers have their own
			return
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return
		}
		for _, e := range entries {
			addDevices(found, filepath.Join(path, e.Name()), depth+1)
		}
		return
	default:
		return
	}
	found[path] = d
}

// boundingSet is the set of capabilities that this process can hand on; nil when they are
// all there are. In a container the agent itself may lack some.
func boundingSet() []string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		value, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return nil
		}
		return capabilityNames(mask)
	}
	return nil
}

// capabilityNames turns a mask of capabilities into names; nil when it has all there are.
func capabilityNames(mask uint64) []string {
	all := spec.AllCapabilities()
	var names []string
	for i, name := range all {
		if mask&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == len(all) {
		return nil
	}
	return names
}
