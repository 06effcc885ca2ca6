package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// allCapabilities are Linux's capabilities in the order of their numbers.
var allCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
	"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}

// defaultCapabilities are the 14 that Docker gives a container.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT",
	"CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
}

// AllCapabilities lists the capabilities that exist, as Linux names them ("CAP_CHOWN"),
// in the order of their numbers.
func AllCapabilities() []string { return slices.Clone(allCapabilities) }

// DefaultCapabilities lists the capabilities that a container has when its definition
// says nothing: Docker's 14.
func DefaultCapabilities() []string { return slices.Clone(defaultCapabilities) }

// CapabilityName gives Linux's name of a capability as a definition names it: with or
// without "CAP_", in any case. "ALL" is itself. ok is false when there is none such.
func CapabilityName(s string) (name string, ok bool) {
	name = strings.ToUpper(strings.TrimSpace(s))
	if name == "ALL" {
		return name, true
	}
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	return name, slices.Contains(allCapabilities, name)
}

// tweakCapabilities applies add and drop (Linux's names, or ALL) to Docker's default set,
// as Docker does: add ALL is everything but what is dropped, drop ALL is nothing but what
// is added, and what is both added and dropped is there. available bounds the default set
// and ALL; a capability that is added by name is not bounded. The order is that of the
// capabilities' numbers.
func tweakCapabilities(add, drop, available []string) []string {
	want := func(c string) bool {
		switch {
		case slices.Contains(add, "ALL"):
			return slices.Contains(available, c) && !slices.Contains(drop, c)
		case slices.Contains(drop, "ALL"):
			return slices.Contains(add, c)
		default:
			kept := slices.Contains(defaultCapabilities, c) && slices.Contains(available, c) && !slices.Contains(drop, c)
			return kept || slices.Contains(add, c)
		}
	}
	set := []string{}
	for _, c := range allCapabilities {
		if want(c) {
			set = append(set, c)
		}
	}
	return set
}

// capabilities gives the container's capability sets. A user other than root gets them
// in the bounding set only, as execve(2) would leave it: a setuid program can have them,
// the process itself cannot. The inheritable set stays empty (CVE-2022-24769).
func (r rendering) capabilities(uid uint32) (*specs.LinuxCapabilities, error) {
	available := r.host.Capabilities
	if len(available) == 0 {
		available = allCapabilities
	}
	var add, drop []string
	if r.privileged {
		add = []string{"ALL"} // add and drop have no effect on a privileged container
	} else if k := r.params.Capabilities; k != nil {
		var err error
		if add, err = r.capabilityNames("add", k.Add); err != nil {
			return nil, err
		}
		if drop, err = r.capabilityNames("drop", k.Drop); err != nil {
			return nil, err
		}
	}
	set := tweakCapabilities(add, drop, available)
	for _, c := range set {
		if !slices.Contains(available, c) {
			return nil, r.fail(CodeCannotStartContainer, "linuxParameters.capabilities.add",
				"%s cannot be given: the agent on this host does not have it itself", c)
		}
	}
	caps := &specs.LinuxCapabilities{Bounding: set}
	if uid == 0 {
		caps.Effective, caps.Permitted = slices.Clone(set), slices.Clone(set)
	}
	return caps, nil
}

func (r rendering) capabilityNames(list string, given []string) ([]string, error) {
	names := make([]string, 0, len(given))
	for _, g := range given {
		name, ok := CapabilityName(g)
		if !ok {
			return nil, r.fail(CodeCannotCreateContainer, "linuxParameters.capabilities."+list,
				"unknown capability %q: use a name of capabilities(7) without CAP_, or ALL", g)
		}
		names = append(names, name)
	}
	return names, nil
}
