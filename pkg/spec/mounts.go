package spec

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultShmSize is Docker's size of /dev/shm in MiB.
const defaultShmSize = 64

// mounts gives the container's mounts in the order in which they are made:
//
//	/proc, /dev and what is in it, /sys        the container's own
//	/etc/hosts, /etc/resolv.conf, …            files written by ecsd
//	volumes, volumes of others, tmpfs          the definition's, outer before inner
//	/dev/init                                  the init process
//
// A mount of the definition takes the place of one above it at the same path, and one at
// /dev of all that are in it. A tmpfs takes the place of a volume that the container has
// from its image or from another container.
func (r rendering) mounts() ([]specs.Mount, error) {
	volumes, err := r.volumeMounts()
	if err != nil {
		return nil, err
	}
	tmpfs, err := r.tmpfsMounts()
	if err != nil {
		return nil, err
	}
	own := append(slices.DeleteFunc(volumes, func(v specs.Mount) bool {
		return slices.ContainsFunc(tmpfs, func(t specs.Mount) bool { return t.Destination == v.Destination })
	}), tmpfs...)
	slices.SortStableFunc(own, func(a, b specs.Mount) int {
		return depth(a.Destination) - depth(b.Destination)
	})
	replaced := func(m specs.Mount) bool {
		return slices.ContainsFunc(own, func(o specs.Mount) bool {
			return o.Destination == m.Destination || o.Destination == "/dev" && strings.HasPrefix(m.Destination, "/dev/")
		})
	}
	mounts := slices.DeleteFunc(append(r.standardMounts(), r.etcMounts()...), replaced)
	mounts = append(mounts, own...)
	if r.wantsInit() && r.host.InitBinary != "" {
		mounts = append(mounts, bind(r.host.InitBinary, r.initPath(), true))
	}
	return mounts, nil
}

// standardMounts are those of every container, as Docker makes them.
func (r rendering) standardMounts() []specs.Mount {
	ro := "ro"
	if r.privileged {
		ro = "rw"
	}
	m := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", ro}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{ro, "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if shm, ok := r.shm(); ok {
		m = append(m, shm)
	}
	return m
}

// shm is the container's /dev/shm: its own, the task's, the host's, or none.
func (r rendering) shm() (specs.Mount, bool) {
	switch r.t.Definition.IPCMode {
	case "none":
		return specs.Mount{}, false
	case "host":
		return bind("/dev/shm", "/dev/shm", false), true
	case "task":
		if r.host.ShmPath != "" {
			return bind(r.host.ShmPath, "/dev/shm", false), true
		}
	}
	size := int64(defaultShmSize)
	if s := r.params.SharedMemorySize; s != nil && *s > 0 {
		size = int64(*s)
	}
	return specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{
		"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size*mebibyte, 10),
	}}, true
}

// etcMounts are the files that ecsd writes for the container. They are read-only where
// the root filesystem is.
func (r rendering) etcMounts() []specs.Mount {
	ro := isTrue(r.c.ReadonlyRootFilesystem)
	var m []specs.Mount
	for _, f := range []struct{ source, destination string }{
		{r.host.Etc.ResolvConf, "/etc/resolv.conf"},
		{r.host.Etc.Hostname, "/etc/hostname"},
		{r.host.Etc.Hosts, "/etc/hosts"},
	} {
		if f.source != "" {
			m = append(m, bind(f.source, f.destination, ro))
		}
	}
	return m
}

// volumeMounts gives the container's volumes. At one path a mount point of its own comes
// before one of another container's, of these the last named before the others, and both
// before a VOLUME of the image.
func (r rendering) volumeMounts() ([]specs.Mount, error) {
	at := map[string]specs.Mount{}
	var order []string
	put := func(m specs.Mount) {
		if _, ok := at[m.Destination]; !ok {
			order = append(order, m.Destination)
		}
		at[m.Destination] = m
	}
	for _, v := range r.img.Volumes {
		if path.Clean("/"+v) == "/" {
			return nil, r.failImage(CodeCannotCreateContainer, "invalid volume specification: '%s': a VOLUME of the image cannot be '/'", v)
		}
	}
	for _, m := range r.imageVolumes(r.c.Name) {
		put(m)
	}
	for i, from := range r.c.VolumesFrom {
		field := "volumesFrom[" + strconv.Itoa(i) + "]"
		others, err := r.volumesOf(from.SourceContainer, field, isTrue(from.ReadOnly), []string{r.c.Name})
		if err != nil {
			return nil, err
		}
		for _, m := range others {
			put(m)
		}
	}
	own, err := r.mountPoints(r.c)
	if err != nil {
		return nil, err
	}
	for _, m := range own {
		put(m)
	}
	mounts := make([]specs.Mount, 0, len(order))
	for _, destination := range order {
		mounts = append(mounts, at[destination])
	}
	return mounts, nil
}

// volumesOf gives the volumes of another container of the task, and of those that it has
// volumes from. seen are the containers on the way here.
func (r rendering) volumesOf(container, field string, readOnly bool, seen []string) ([]specs.Mount, error) {
	if slices.Contains(seen, container) {
		return nil, r.fail(CodeCannotCreateContainer, field, "containers have volumes from each other: %s", strings.Join(append(seen, container), " → "))
	}
	c, ok := r.t.Container(container)
	if !ok {
		return nil, r.fail(CodeCannotCreateContainer, field, "No such container: %q is not in this task", container)
	}
	all := r.imageVolumes(container)
	for _, from := range c.VolumesFrom {
		more, err := r.volumesOf(from.SourceContainer, field, isTrue(from.ReadOnly), append(slices.Clone(seen), container))
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	own, err := r.mountPoints(c)
	if err != nil {
		return nil, err
	}
	all = append(all, own...)
	if readOnly {
		for i, m := range all {
			all[i] = bind(m.Source, m.Destination, true)
		}
	}
	return all, nil
}

// imageVolumes gives the mounts of the directories made for a container's VOLUME paths.
func (r rendering) imageVolumes(container string) []specs.Mount {
	dirs := r.host.ImageVolumes[container]
	var m []specs.Mount
	for _, p := range slices.Sorted(maps.Keys(dirs)) {
		m = append(m, bind(dirs[p], path.Clean("/"+p), false))
	}
	return m
}

// mountPoints gives the mounts of c's own mount points, c being any container of the task.
func (r rendering) mountPoints(c ContainerDefinition) ([]specs.Mount, error) {
	var mounts []specs.Mount
	fail := func(i int, format string, args ...any) ([]specs.Mount, error) {
		other := r
		other.index = containerIndex(r.t, c.Name)
		return nil, other.fail(CodeCannotCreateContainer, "mountPoints["+strconv.Itoa(i)+"]", format, args...)
	}
	for i, mp := range c.MountPoints {
		destination := path.Clean(mp.ContainerPath)
		switch {
		case !path.IsAbs(destination):
			return fail(i, "invalid mount path: '%s' mount path must be absolute", mp.ContainerPath)
		case destination == "/":
			return fail(i, "invalid mount path: destination can't be '/'")
		case slices.ContainsFunc(mounts, func(m specs.Mount) bool { return m.Destination == destination }):
			return fail(i, "Duplicate mount point: %s", destination)
		}
		source, ok := r.host.Volumes[mp.SourceVolume]
		if !ok {
			return fail(i, "volume %q does not exist: the task definition's volumes must name it", mp.SourceVolume)
		}
		mounts = append(mounts, bind(source, destination, isTrue(mp.ReadOnly)))
	}
	return mounts, nil
}

// bind makes a bind mount that neither sees later mounts of the host nor shows it its own.
func bind(source, destination string, readOnly bool) specs.Mount {
	options := []string{"rbind", "rprivate"}
	if readOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: destination, Type: "bind", Source: source, Options: options}
}

// depth is the number of parts of a clean path.
func depth(p string) int { return strings.Count(strings.TrimSuffix(p, "/"), "/") }
