package spec

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// OCIVersion is the version of the runtime specification that OCI writes: the newest
// that runc 1.1 and crun 1.8, the oldest runtimes ecsd runs on, both accept.
const OCIVersion = "1.0.2"

// Codes of an OCIError, in ECS's words. Which is which follows Docker: what it refuses
// when a container is created, and what it finds out when it starts one.
const (
	CodeCannotCreateContainer = "CannotCreateContainerError"
	CodeCannotStartContainer  = "CannotStartContainerError"
)

// ImageConfig is what matters of an image to the container that runs it: members of the
// image's configuration, and two files of its root filesystem.
type ImageConfig struct {
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Cmd        []string          `json:"cmd,omitempty"`
	Env        []string          `json:"env,omitempty"` // "NAME=value"
	WorkingDir string            `json:"workingDir,omitempty"`
	User       string            `json:"user,omitempty"`
	StopSignal string            `json:"stopSignal,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Volumes    []string          `json:"volumes,omitempty"` // paths named by VOLUME

	Passwd []byte `json:"-"` // contents of /etc/passwd, nil when the image has none
	Group  []byte `json:"-"` // contents of /etc/group, nil when the image has none
}

// Host is what matters of a machine, and of the task's sandbox on it, to a container.
// The zero Host is a machine on cgroup v1 without AppArmor, SELinux, swap accounting or
// any limit of its own, for a task on the host's network.
type Host struct {
	Arch     string `json:"arch,omitempty"`     // GOARCH; "" is the one this program was built for
	Hostname string `json:"hostname,omitempty"` // what containers in network mode host are called

	CgroupV2      bool   `json:"cgroupV2,omitempty"`
	SystemdCgroup bool   `json:"systemdCgroup,omitempty"` // slices and scopes in place of directories
	CgroupParent  string `json:"cgroupParent,omitempty"`  // parent of all tasks' cgroups; "" is "/ecs"

	NetworkNamespace string   `json:"networkNamespace,omitempty"` // path; not used in network mode host, needed in all others
	PIDNamespace     string   `json:"pidNamespace,omitempty"`     // path, of the task; for pidMode task
	IPCNamespace     string   `json:"ipcNamespace,omitempty"`     // path, of the task; for ipcMode task
	ShmPath          string   `json:"shmPath,omitempty"`          // the task's tmpfs for /dev/shm; for ipcMode task
	Etc              EtcFiles `json:"etc"`

	// Volumes are the task's volumes by name, each a path that exists on the host.
	Volumes map[string]string `json:"volumes,omitempty"`
	// ImageVolumes are the directories made for the VOLUME paths of images: container
	// name → path in the container → path on the host. A VOLUME path without one is a
	// plain directory of the root filesystem.
	ImageVolumes map[string]map[string]string `json:"imageVolumes,omitempty"`
	// Devices are the host's devices by path: those the definition names (a directory
	// stands for all in it), or all of them for a privileged container.
	Devices map[string]HostDevice `json:"devices,omitempty"`

	AppArmorProfile string `json:"appArmorProfile,omitempty"` // loaded default profile; "" when the host has no AppArmor
	SELinuxLabel    string `json:"seLinuxLabel,omitempty"`    // default process label; "" when the host has no SELinux
	SeccompArches   string `json:"seccompArches,omitempty"`   // SeccompAll (also "") or SeccompNative
	NoNewPrivileges bool   `json:"noNewPrivileges,omitempty"` // the host's policy: set it for every container
	// PrivilegedDisabled is the host's policy: it runs no privileged containers.
	PrivilegedDisabled bool `json:"privilegedDisabled,omitempty"`
	// Capabilities are those that the agent can hand on, its own bounding set. Empty
	// means all that exist.
	Capabilities []string `json:"capabilities,omitempty"`

	InitBinary string `json:"initBinary,omitempty"` // static binary for initProcessEnabled, see InitPath

	SwapAccounting bool     `json:"swapAccounting,omitempty"` // the kernel can limit swap by cgroup
	CPUPeriod      uint64   `json:"cpuPeriod,omitempty"`      // µs over which the task's CPU quota counts; 0 is 100000
	PidsLimit      int64    `json:"pidsLimit,omitempty"`      // processes and threads a container; 0 is no limit
	TaskPidsLimit  int64    `json:"taskPidsLimit,omitempty"`  // the same for a whole task
	Ulimits        []Ulimit `json:"ulimits,omitempty"`        // for names the definition leaves out, see DefaultUlimits

	// Env is added to the environment last and wins over everything: values of secrets,
	// ECS_CONTAINER_METADATA_URI_V4 and the like.
	Env map[string]string `json:"env,omitempty"`
}

// EtcFiles are host paths of the files that ecsd writes for a container. An empty one is
// not mounted: the container then sees its image's.
type EtcFiles struct {
	Hosts      string `json:"hosts,omitempty"`      // at /etc/hosts
	ResolvConf string `json:"resolvConf,omitempty"` // at /etc/resolv.conf
	Hostname   string `json:"hostname,omitempty"`   // at /etc/hostname
}

// OCIError says why a definition cannot become a container here. The definition (or its
// image) is to blame, so trying again cannot help.
type OCIError struct {
	Code    string // ECS's word, CodeCannotCreateContainer or CodeCannotStartContainer
	Field   string // path of the member to blame, "containerDefinitions[0].user"; "image" for the image's own fault
	Message string // what is wrong and what to do, in Docker's words where it has some
}

func (e *OCIError) Error() string { return e.Code + ": " + e.Field + ": " + e.Message }

// OCI renders a container of a task as an OCI runtime spec. It is a function of its
// arguments alone: same arguments, same spec, byte for byte. The task's definition is
// expected to be defaulted and valid; what is wrong all the same, or does not fit the
// image or the host, is an *OCIError.
//
// Defaults are Docker's, because that is what images and ECS definitions were written
// against: see docs/security.md for those that concern security. The runtime still has
// to add what only it knows (the root filesystem's mounts, annotations of its shim).
func OCI(t Task, container string, img ImageConfig, host Host) (*specs.Spec, error) {
	r, err := newRendering(t, container, img, host)
	if err != nil {
		return nil, err
	}
	process, err := r.process()
	if err != nil {
		return nil, err
	}
	mounts, err := r.mounts()
	if err != nil {
		return nil, err
	}
	linux, err := r.linux(process.Capabilities.Bounding)
	if err != nil {
		return nil, err
	}
	hostname, err := r.hostname()
	if err != nil {
		return nil, err
	}
	return &specs.Spec{
		Version:  OCIVersion,
		Process:  process,
		Root:     &specs.Root{Path: "rootfs", Readonly: isTrue(r.c.ReadonlyRootFilesystem)},
		Hostname: hostname,
		Mounts:   mounts,
		Linux:    linux,
	}, nil
}

// rendering is one call of OCI: its arguments, and the container looked up. It is a
// value that nothing changes; each method makes one part of the spec from it.
type rendering struct {
	t     Task
	c     ContainerDefinition
	index int // of c in the definition
	img   ImageConfig
	host  Host
	// linuxParameters of c, never nil
	params     LinuxParameters
	privileged bool
	security   securityOptions
}

func newRendering(t Task, container string, img ImageConfig, host Host) (rendering, error) {
	r := rendering{t: t, img: img, host: host}
	r.index = containerIndex(t, container)
	if r.index < 0 {
		return r, &OCIError{Code: CodeCannotCreateContainer, Field: "containerDefinitions",
			Message: fmt.Sprintf("task definition %s has no container named %q", t.Definition.Family, container)}
	}
	r.c = t.Definition.ContainerDefinitions[r.index]
	if r.c.LinuxParameters != nil {
		r.params = *r.c.LinuxParameters
	}
	r.privileged = isTrue(r.c.Privileged)
	if r.privileged && host.PrivilegedDisabled {
		return r, r.fail(CodeCannotCreateContainer, "privileged",
			"privileged containers are disabled on this host (ECS_DISABLE_PRIVILEGED): set it to false and name the capabilities and devices that are needed")
	}
	var err error
	r.security, err = r.securityOptions()
	return r, err
}

// linux makes the part of the spec that is named so. bounding is the container's
// capability bounding set, which decides what the seccomp profile lets through.
func (r rendering) linux(bounding []string) (*specs.Linux, error) {
	namespaces, err := r.namespaces()
	if err != nil {
		return nil, err
	}
	sysctls, err := r.sysctls()
	if err != nil {
		return nil, err
	}
	devices, rules, err := r.devices()
	if err != nil {
		return nil, err
	}
	resources, err := r.resources()
	if err != nil {
		return nil, err
	}
	resources.Devices = rules
	l := &specs.Linux{
		Namespaces:  namespaces,
		Sysctl:      sysctls,
		Devices:     devices,
		Resources:   resources,
		CgroupsPath: ContainerCgroup(r.t, r.c.Name, r.host),
	}
	if !r.privileged {
		l.MaskedPaths = maskedPaths()
		l.ReadonlyPaths = readonlyPaths()
		l.Seccomp = seccompProfile(r.host.Arch, r.host.SeccompArches, bounding)
	}
	return l, nil
}

// fail makes the error of one member of the container's definition.
func (r rendering) fail(code, field, format string, args ...any) error {
	return &OCIError{Code: code, Field: r.field(field), Message: fmt.Sprintf(format, args...)}
}

// failImage makes the error of something the image brings along.
func (r rendering) failImage(code, format string, args ...any) error {
	return &OCIError{Code: code, Field: "image", Message: fmt.Sprintf(format, args...)}
}

func (r rendering) field(name string) string {
	return "containerDefinitions[" + strconv.Itoa(r.index) + "]." + name
}

// ContainerID is the id under which the runtime knows a container: the task's id and
// the container's place in the definition. Names are no ids: containerd refuses some
// that ECS allows, and they may be too long. ok is false when there is no such container.
func ContainerID(t Task, container string) (id string, ok bool) {
	i := containerIndex(t, container)
	if i < 0 {
		return "", false
	}
	return t.ID + "-" + strconv.Itoa(i), true
}

// StopSignal is the signal that asks a container to end: the image's STOPSIGNAL, a name
// or a number, else SIGTERM. ECS definitions cannot name one.
func StopSignal(_ ContainerDefinition, img ImageConfig) string {
	if img.StopSignal != "" {
		return img.StopSignal
	}
	return "SIGTERM"
}

// AsOCIError finds the *OCIError in err, if it has one.
func AsOCIError(err error) (*OCIError, bool) {
	var oe *OCIError
	ok := errors.As(err, &oe)
	return oe, ok
}

func containerIndex(t Task, name string) int {
	for i, c := range t.Definition.ContainerDefinitions {
		if c.Name == name {
			return i
		}
	}
	return -1
}

func isTrue(b *bool) bool { return b != nil && *b }
