package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxHostname is the longest name sethostname(2) takes.
const maxHostname = 64

// namespaces gives the namespaces that the container makes or joins. What is not in the
// list it shares with the host.
func (r rendering) namespaces() ([]specs.LinuxNamespace, error) {
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}}
	add := func(kind specs.LinuxNamespaceType, path string) {
		list = append(list, specs.LinuxNamespace{Type: kind, Path: path})
	}
	switch mode := r.t.Definition.PIDMode; {
	case mode == "host":
	case mode == "task" && r.host.PIDNamespace == "":
		return nil, &OCIError{Code: CodeCannotStartContainer, Field: "pidMode", Message: "the task's pid namespace does not exist"}
	case mode == "task":
		add(specs.PIDNamespace, r.host.PIDNamespace)
	default:
		add(specs.PIDNamespace, "")
	}
	switch mode := r.t.Definition.IPCMode; {
	case mode == "host":
	case mode == "task" && r.host.IPCNamespace == "":
		return nil, &OCIError{Code: CodeCannotStartContainer, Field: "ipcMode", Message: "the task's ipc namespace does not exist"}
	case mode == "task":
		add(specs.IPCNamespace, r.host.IPCNamespace)
	default:
		add(specs.IPCNamespace, "")
	}
	switch {
	case !r.ownNetwork():
	case r.host.NetworkNamespace == "": // never by mistake onto the host's network
		return nil, &OCIError{Code: CodeCannotStartContainer, Field: "networkMode", Message: "the container's network namespace does not exist"}
	default:
		add(specs.NetworkNamespace, r.host.NetworkNamespace)
	}
	if r.privateCgroups() {
		add(specs.CgroupNamespace, "")
	}
	return list, nil
}

// ownNetwork reports whether the container's network is another than the host's.
func (r rendering) ownNetwork() bool { return r.t.Definition.NetworkMode != "host" }

// privateCgroups reports whether the container sees its own cgroup as the root of all.
// As with Docker, a privileged container on cgroup v1 sees the host's.
func (r rendering) privateCgroups() bool { return r.host.CgroupV2 || !r.privileged }

// Hostname is what a container calls itself, and what belongs in its /etc/hostname: the
// definition's hostname; the host's own in host mode; else the container's id. In awsvpc
// mode, where the containers share a network, it is the task's id for all of them. Of the
// host only its name counts.
func Hostname(t Task, container string, host Host) string {
	c, _ := t.Container(container)
	switch {
	case c.Hostname != "":
		return c.Hostname
	case t.Definition.NetworkMode == "host" && host.Hostname != "":
		return host.Hostname
	case t.Definition.NetworkMode == "awsvpc":
		return t.ID
	}
	id, _ := ContainerID(t, container)
	return id
}

func (r rendering) hostname() (string, error) {
	name := Hostname(r.t, r.c.Name, r.host)
	if len(name) > maxHostname || strings.Contains(name, "\x00") {
		return "", r.fail(CodeCannotStartContainer, "hostname", "%q cannot be a host name: Linux takes at most %d bytes", name, maxHostname)
	}
	return name, nil
}

// defaultSysctls are Docker's for a network namespace of the container's own: any user
// may bind low ports and send ICMP echo requests, so NET_BIND_SERVICE and NET_RAW are
// not needed for that.
func defaultSysctls() map[string]string {
	return map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "0",
		"net.ipv4.ping_group_range":           "0 2147483647",
	}
}

// ipcSysctls are those of an ipc namespace; fs.mqueue.* beside them.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
	"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// sysctls gives the definition's systemControls and the defaults. Where the containers
// of a task share their network, a default gives way to what any of them sets: each
// container writes its list when it starts, so it would undo the other's.
func (r rendering) sysctls() (map[string]string, error) {
	set := map[string]string{}
	if r.ownNetwork() {
		set = defaultSysctls()
		if r.t.Definition.NetworkMode == "awsvpc" {
			for _, c := range r.t.Definition.ContainerDefinitions {
				for _, s := range c.SystemControls {
					delete(set, s.Namespace)
				}
			}
		}
	}
	for _, s := range r.c.SystemControls {
		switch {
		case strings.HasPrefix(s.Namespace, "net."):
			if !r.ownNetwork() {
				return nil, r.fail(CodeCannotCreateContainer, "systemControls",
					"sysctl %s is not allowed in the host's network: set it on the host, or use another networkMode", s.Namespace)
			}
		case slices.Contains(ipcSysctls, s.Namespace), strings.HasPrefix(s.Namespace, "fs.mqueue."):
			if r.t.Definition.IPCMode == "host" {
				return nil, r.fail(CodeCannotCreateContainer, "systemControls",
					"sysctl %s is not allowed with ipcMode host: set it on the host, or use another ipcMode", s.Namespace)
			}
		default:
			return nil, r.fail(CodeCannotCreateContainer, "systemControls",
				"sysctl '%s' is not allowed: it is not in a separate kernel namespace; net.*, fs.mqueue.* and %s are", s.Namespace, strings.Join(ipcSysctls, ", "))
		}
		set[s.Namespace] = s.Value
	}
	if len(set) == 0 {
		return nil, nil
	}
	return set, nil
}
