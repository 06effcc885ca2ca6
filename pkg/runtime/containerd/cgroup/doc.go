// Package cgroup keeps the control groups of tasks: one group a task, which carries the
// task's own limits, and in it one leaf a container, which the OCI runtime makes.
//
//	cgroup v1, in every hierarchy      cgroup v2                    cgroup v2 under systemd
//
//	<mount>/ecs/<task>/                /sys/fs/cgroup/ecs/<task>/   …/ecstasks.slice/
//	    ├── web/    (runc)                 ├── web/    (runc)           ecstasks-<task>.slice/
//	    └── proxy/  (runc)                 └── proxy/  (runc)              └── ecsd-<task>-0.scope (runc)
//
// The task's group is made before its first container and removed after its last one: the
// OCI runtime removes only its leaves. On a hybrid host (v1 controllers and an empty
// unified tree) runc makes the directories in the unified tree too, so removal visits
// every hierarchy there is.
//
// The group is also the proof of death. After a shim was killed containerd forgets a task
// at once while its processes live on; cgroup.procs never lies, and lists no zombies.
//
// Everything here is a plain read or write of a few files and safe to repeat. Only Create
// and Remove under systemd talk to somebody (over D-Bus).
package cgroup
