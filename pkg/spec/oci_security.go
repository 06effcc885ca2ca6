package spec

import (
	"strings"
)

// maskedPaths are files and directories that a container sees empty: they tell about the
// host, or reach its hardware. Docker's list but for the thermal files of each CPU, whose
// number a function of values does not know.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

// readonlyPaths are those that a container can read but not write: Docker's list.
func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// securityOptions is what a container's dockerSecurityOptions come to on this host.
type securityOptions struct {
	noNewPrivileges bool
	apparmor        string // profile, "" for none
	selinux         string // process label, "" for none
}

// securityOptions reads the dockerSecurityOptions. Forms: no-new-privileges[:true|false],
// apparmor:PROFILE, label:{disable|user:U|role:R|type:T|level:L}; "=" does for ":".
// credentialspec: has no effect on Linux, which validation says.
func (r rendering) securityOptions() (securityOptions, error) {
	opts := securityOptions{apparmor: r.host.AppArmorProfile, selinux: r.host.SELinuxLabel}
	if r.privileged {
		opts.apparmor, opts.selinux = "", ""
	}
	const field = "dockerSecurityOptions"
	for _, given := range r.c.DockerSecurityOptions {
		key, value := given, ""
		if i := strings.IndexAny(given, ":="); i >= 0 {
			key, value = given[:i], given[i+1:]
		}
		switch {
		case key == "no-new-privileges" && (value == "" || value == "true"):
			opts.noNewPrivileges = true
		case key == "no-new-privileges" && value == "false":
			opts.noNewPrivileges = false
		case key == "apparmor" && value == "unconfined":
			opts.apparmor = ""
		case key == "apparmor" && value != "":
			if r.host.AppArmorProfile == "" {
				return opts, r.fail(CodeCannotStartContainer, field,
					"%q: this host has no AppArmor; remove the option, or place the task on a host that has it", given)
			}
			opts.apparmor = value
		case key == "label" && value == "disable":
			opts.selinux = ""
		case key == "label" && value != "":
			if r.host.SELinuxLabel == "" {
				return opts, r.fail(CodeCannotStartContainer, field,
					"%q: this host has no SELinux; remove the option, or place the task on a host that has it", given)
			}
			label, ok := changeLabel(r.host.SELinuxLabel, opts.selinux, value)
			if !ok {
				return opts, r.fail(CodeCannotCreateContainer, field,
					"invalid --security-opt: %q: use label:disable, label:user:U, label:role:R, label:type:T or label:level:L", given)
			}
			opts.selinux = label
		case key == "credentialspec":
		default:
			return opts, r.fail(CodeCannotCreateContainer, field,
				"invalid --security-opt: %q: use no-new-privileges, apparmor:PROFILE or label:VALUE", given)
		}
	}
	return opts, nil
}

// changeLabel replaces one part of an SELinux label user:role:type:level. label is what
// earlier options have made of the host's default, base; "" after label:disable, and then
// it begins anew from base.
func changeLabel(base, label, change string) (string, bool) {
	if label == "" {
		label = base
	}
	part, value, ok := strings.Cut(change, ":")
	if !ok {
		part, value, ok = strings.Cut(change, "=")
	}
	parts := strings.SplitN(label, ":", 4)
	if !ok || value == "" || len(parts) < 4 {
		return "", false
	}
	switch part {
	case "user":
		parts[0] = value
	case "role":
		parts[1] = value
	case "type":
		parts[2] = value
	case "level":
		parts[3] = value
	default:
		return "", false
	}
	return strings.Join(parts, ":"), true
}
