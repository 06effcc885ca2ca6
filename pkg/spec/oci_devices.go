package spec

import (
	"cmp"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// HostDevice is a device node of the host.
type HostDevice struct {
	Type  string      `json:"type"` // "c" or "b"
	Major int64       `json:"major"`
	Minor int64       `json:"minor"`
	Mode  os.FileMode `json:"mode"` // permission bits
	UID   uint32      `json:"uid,omitempty"`
	GID   uint32      `json:"gid,omitempty"`
}

// defaultDeviceRules are what every container may do with devices: nothing, but use the
// harmless ones that the runtime makes in its /dev. Docker's list, and the three that
// runc adds to it by itself, for runtimes that do not.
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, n := range [][2]int64{
		{1, 3}, // null
		{1, 5}, // zero
		{1, 7}, // full
		{1, 8}, // random
		{1, 9}, // urandom
		{5, 0}, // tty
		{5, 1}, // console
		{5, 2}, // ptmx
	} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &n[0], Minor: &n[1], Access: "rwm"})
	}
	pts := int64(136) // pseudo terminals, any minor
	return append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &pts, Access: "rwm"})
}

// devices gives the device nodes to make and the device cgroup's rules.
func (r rendering) devices() ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	if r.privileged {
		return r.allDevices(), []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, nil
	}
	var nodes []specs.LinuxDevice
	rules := defaultDeviceRules()
	for _, d := range r.params.Devices {
		access, err := r.deviceAccess(d)
		if err != nil {
			return nil, nil, err
		}
		found, err := r.findDevices(d)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range found {
			nodes = append(nodes, f)
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: f.Type, Major: &f.Major, Minor: &f.Minor, Access: access})
		}
	}
	return nodes, rules, nil
}

// findDevices gives what a device of the definition stands for: itself, or all that are
// in the directory it names.
func (r rendering) findDevices(d Device) ([]specs.LinuxDevice, error) {
	from := path.Clean(d.HostPath)
	to := from
	if d.ContainerPath != "" {
		to = path.Clean(d.ContainerPath)
	}
	if !path.IsAbs(to) {
		return nil, r.fail(CodeCannotCreateContainer, "linuxParameters.devices", "%q is not an absolute path", to)
	}
	if dev, ok := r.host.Devices[from]; ok {
		return []specs.LinuxDevice{dev.node(to)}, nil
	}
	var nodes []specs.LinuxDevice
	for _, p := range slices.Sorted(maps.Keys(r.host.Devices)) {
		if rest, ok := strings.CutPrefix(p, strings.TrimSuffix(from, "/")+"/"); ok {
			nodes = append(nodes, r.host.Devices[p].node(path.Join(to, rest)))
		}
	}
	if nodes == nil {
		return nil, r.fail(CodeCannotStartContainer, "linuxParameters.devices",
			"error gathering device information while adding custom device %q: no such device on this host", d.HostPath)
	}
	return nodes, nil
}

func (r rendering) deviceAccess(d Device) (string, error) {
	if len(d.Permissions) == 0 {
		return "rwm", nil
	}
	var read, write, mknod string
	for _, p := range d.Permissions {
		switch p {
		case "read":
			read = "r"
		case "write":
			write = "w"
		case "mknod":
			mknod = "m"
		default:
			return "", r.fail(CodeCannotCreateContainer, "linuxParameters.devices", "unknown permission %q: use read, write or mknod", p)
		}
	}
	return read + write + mknod, nil
}

// allDevices gives every device of the host to a privileged container, but for those of
// file systems that the container has its own of.
func (r rendering) allDevices() []specs.LinuxDevice {
	var nodes []specs.LinuxDevice
	for p, d := range r.host.Devices {
		if !ownDevice(p) {
			nodes = append(nodes, d.node(p))
		}
	}
	slices.SortFunc(nodes, func(a, b specs.LinuxDevice) int { return cmp.Compare(a.Path, b.Path) })
	return nodes
}

// ownDevice reports whether a path below /dev is the container's own business.
func ownDevice(p string) bool {
	if p == "/dev/console" || p == "/dev/ptmx" || p == InitPath {
		return true
	}
	for _, dir := range []string{"/dev/pts/", "/dev/shm/", "/dev/mqueue/", "/dev/fd/", "/dev/.udev/"} {
		if strings.HasPrefix(p, dir) {
			return true
		}
	}
	return false
}

func (d HostDevice) node(at string) specs.LinuxDevice {
	mode, uid, gid := d.Mode.Perm(), d.UID, d.GID
	return specs.LinuxDevice{Path: at, Type: d.Type, Major: d.Major, Minor: d.Minor, FileMode: &mode, UID: &uid, GID: &gid}
}
