package spec

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// linux checks what concerns the kernel: capabilities, devices, limits, sysctls.
func (v *validation) linux(td TaskDefinition, c ContainerDefinition, p string) {
	if l := c.LinuxParameters; l != nil {
		lp := p + ".linuxParameters"
		if l.Capabilities != nil {
			v.capabilities(l.Capabilities.Add, lp+".capabilities.add")
			v.capabilities(l.Capabilities.Drop, lp+".capabilities.drop")
		}
		v.devices(l.Devices, lp+".devices")
		v.tmpfs(l.Tmpfs, lp+".tmpfs")
		v.between(lp+".sharedMemorySize", l.SharedMemorySize, 1, maxMemoryMiB, " MiB")
		v.between(lp+".maxSwap", l.MaxSwap, 0, maxMemoryMiB, " MiB")
		v.between(lp+".swappiness", l.Swappiness, 0, 100, "")
	}
	v.ulimits(c.Ulimits, p+".ulimits")
	v.sysctls(td, c, p+".systemControls")
	v.securityOptions(c.DockerSecurityOptions, p+".dockerSecurityOptions")
}

func (v *validation) capabilities(names []string, p string) {
	for i, name := range names {
		if _, ok := CapabilityName(name); !ok {
			known := make([]string, 0, len(allCapabilities))
			for _, c := range allCapabilities {
				known = append(known, strings.TrimPrefix(c, "CAP_"))
			}
			hint := ""
			if near := nearest(strings.TrimPrefix(strings.ToUpper(name), "CAP_"), known); near != "" {
				hint = ": did you mean " + near + "?"
			}
			v.fail(at(p, i), "%s is not a capability of Linux, nor ALL%s", shown(name), hint)
		}
	}
}

func (v *validation) devices(devices []Device, p string) {
	seen := map[string]bool{}
	for i, d := range devices {
		dp := at(p, i)
		if !path.IsAbs(d.HostPath) {
			v.fail(dp+".hostPath", "%s must be an absolute path", shown(d.HostPath))
		}
		if !path.IsAbs(d.ContainerPath) && d.ContainerPath != d.HostPath {
			v.fail(dp+".containerPath", "%s must be an absolute path", shown(d.ContainerPath))
		}
		if seen[path.Clean(d.ContainerPath)] {
			v.fail(dp+".containerPath", "%s is there twice", shown(d.ContainerPath))
		}
		seen[path.Clean(d.ContainerPath)] = true
		for j, permission := range d.Permissions {
			if permission == "" {
				v.fail(at(dp+".permissions", j), "must not be empty")
			}
			v.oneOf(at(dp+".permissions", j), permission, "read", "write", "mknod")
		}
	}
}

func (v *validation) tmpfs(mounts []Tmpfs, p string) {
	for i, t := range mounts {
		tp := at(p, i)
		v.mountTarget(t.ContainerPath, tp+".containerPath")
		if t.Size < 1 || t.Size > maxMemoryMiB {
			v.fail(tp+".size", "must be between 1 and %d MiB, not %d", maxMemoryMiB, t.Size)
		}
		if _, bad := tmpfsOptions(t); bad != "" {
			v.fail(tp+".mountOptions", "%s is no mount option of a tmpfs", shown(bad))
		}
	}
}

func (v *validation) ulimits(limits []Ulimit, p string) {
	seen := map[string]bool{}
	for i, l := range limits {
		lp := at(p, i)
		switch {
		case !slices.Contains(ulimitNames, l.Name):
			v.fail(lp+".name", "must be %s, not %s", orList(ulimitNames), shown(l.Name))
		case seen[l.Name]:
			v.fail(lp+".name", "the limit %s is set twice", l.Name)
		}
		seen[l.Name] = true
		for _, n := range []struct {
			field string
			value int64
		}{{".softLimit", l.SoftLimit}, {".hardLimit", l.HardLimit}} {
			if n.value < -1 {
				v.fail(lp+n.field, "must be 0 or more, or -1 for no limit, not %d", n.value)
			}
		}
		if l.HardLimit >= 0 && (l.SoftLimit > l.HardLimit || l.SoftLimit == -1) {
			v.fail(lp+".softLimit", "must not be above hardLimit, which is %d", l.HardLimit)
		}
	}
}

// validSysctl keeps a name from leading elsewhere when its dots become slashes.
var validSysctl = regexp.MustCompile(`^[a-z0-9_-]+(\.[A-Za-z0-9_-]+)+$`).MatchString

// sysctls checks that each sysctl belongs to a namespace that the container has to itself.
func (v *validation) sysctls(td TaskDefinition, c ContainerDefinition, p string) {
	seen := map[string]bool{}
	for i, s := range c.SystemControls {
		np := at(p, i) + ".namespace"
		ipc := slices.Contains(ipcSysctls, s.Namespace) || strings.HasPrefix(s.Namespace, "fs.mqueue.")
		net := strings.HasPrefix(s.Namespace, "net.")
		switch {
		case !validSysctl(s.Namespace) || !ipc && !net:
			v.fail(np, "%s cannot be set for a container: only net.*, fs.mqueue.* and %s can", shown(s.Namespace), strings.Join(ipcSysctls, ", "))
		case net && td.NetworkMode == NetworkHost:
			v.fail(np, "%s would change the host's network: it cannot be set with networkMode host", shown(s.Namespace))
		case ipc && td.IPCMode == "host":
			v.fail(np, "%s would change the host: it cannot be set with ipcMode host", shown(s.Namespace))
		case seen[s.Namespace]:
			v.fail(np, "%s is set twice", shown(s.Namespace))
		}
		seen[s.Namespace] = true
		if s.Value == "" {
			v.fail(at(p, i)+".value", "must not be empty")
		}
	}
}

func (v *validation) securityOptions(options []string, p string) {
	for i, o := range options {
		key, value, _ := strings.Cut(strings.Replace(o, "=", ":", 1), ":")
		switch {
		case key == "no-new-privileges" && slices.Contains([]string{"", "true", "false"}, value):
		case (key == "apparmor" || key == "label") && value != "":
		case key == "credentialspec":
			v.fail(at(p, i), "not carried out yet: Active Directory credentials")
		default:
			v.fail(at(p, i), "%s is not an option: use no-new-privileges, apparmor:PROFILE or label:VALUE", shown(o))
		}
	}
}

// procFiles are the files below /proc that may be mounted over: what runc allows, for
// file systems that show a container its own figures.
var procFiles = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
	"/proc/loadavg", "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}

// mountTarget checks where in a container something is mounted.
func (v *validation) mountTarget(target, p string) {
	switch clean := path.Clean(target); {
	case target == "":
		v.fail(p, "must not be empty")
	case !path.IsAbs(target):
		v.fail(p, "%s must be an absolute path", shown(target))
	case clean == "/":
		v.fail(p, "%s: a mount cannot cover the whole container", shown(target))
	case within(clean, "/proc") && !slices.Contains(procFiles, clean):
		v.fail(p, "%s cannot be mounted because it is inside /proc", shown(target))
	}
}

// mountPoints checks the mounts of a container's volumes, and that no two mounts, tmpfs
// included, have the same target.
func (v *validation) mountPoints(td TaskDefinition, c ContainerDefinition, p string) {
	seen := map[string]string{}
	once := func(target, tp string) {
		if target == "" {
			return
		}
		clean := path.Clean(target)
		if first, dup := seen[clean]; dup {
			v.fail(tp, "Duplicate mount point: %s is the target of %s too", shown(target), first)
			return
		}
		seen[clean] = tp
	}
	for i, m := range c.MountPoints {
		mp := at(p+".mountPoints", i)
		v.mountTarget(m.ContainerPath, mp+".containerPath")
		once(m.ContainerPath, mp+".containerPath")
		if m.SourceVolume == "" {
			v.fail(mp+".sourceVolume", "must not be empty: it names one of volumes")
		} else if !slices.ContainsFunc(td.Volumes, func(v Volume) bool { return v.Name == m.SourceVolume }) {
			v.fail(mp+".sourceVolume", "Unknown volume '%s'.", strings.Trim(strconv.Quote(m.SourceVolume), `"`))
		}
	}
	if c.LinuxParameters != nil {
		for i, t := range c.LinuxParameters.Tmpfs {
			once(t.ContainerPath, at(p+".linuxParameters.tmpfs", i)+".containerPath")
		}
	}
}

// volumes checks the task's volumes.
func (v *validation) volumes(td TaskDefinition) {
	seen := map[string]bool{}
	for i, vol := range td.Volumes {
		p := at("volumes", i)
		v.name(p+".name", vol.Name, "Volume.name should not be null or empty.")
		if seen[vol.Name] && vol.Name != "" {
			v.fail(p+".name", "%s is there twice", shown(vol.Name))
		}
		seen[vol.Name] = true

		kinds := 0
		for _, set := range []bool{
			vol.Host != nil, vol.DockerVolumeConfiguration != nil, vol.EFSVolumeConfiguration != nil,
			vol.S3FilesVolumeConfiguration != nil, vol.FSxWindowsFileServerVolumeConfiguration != nil,
			isTrue(vol.ConfiguredAtLaunch),
		} {
			if set {
				kinds++
			}
		}
		if kinds > 1 {
			v.fail(p, "is of several kinds: a volume is one of host, dockerVolumeConfiguration, efsVolumeConfiguration, …")
		}
		if vol.Host != nil && vol.Host.SourcePath != "" && !path.IsAbs(vol.Host.SourcePath) {
			v.fail(p+".host.sourcePath", "%s must be an absolute path", shown(vol.Host.SourcePath))
		}
		if d := vol.DockerVolumeConfiguration; d != nil {
			dp := p + ".dockerVolumeConfiguration"
			v.oneOf(dp+".scope", d.Scope, "task", "shared")
			if d.Scope == "shared" {
				v.fail(dp+".scope", "%s", whyShared)
			}
			if d.Driver != "local" {
				v.fail(dp+".driver", "%s", whyShared)
			}
		}
	}
}
