// Package containerd is the door to the machine on containerd: it implements
// runtime.Runtime, and pulls images, makes sandboxes, runs containers and reads figures.
//
// What it keeps where:
//
//	containerd         container records, whose labels say what runs and how it ended (labels.go)
//	  namespace        images, snapshots, one lease a task
//	<datadir>/tasks/   <id>/sandbox.json: namespaces, addresses, ports (sandboxfile.go)
//	                   <id>/etc/<index>/: hosts, resolv.conf, hostname, mounted by containers
//	                   <id>/volumes/<name>: volumes that live as long as the task
//	<rundir>           pinned namespaces, FIFOs of execs: all that ends with a reboot
//	/sys/fs/cgroup     one group a task (package cgroup)
//	kernel             one bridge, veth pairs, one nftables table (package network)
//
// There is no other memory: a Runtime made anew on the same places goes on where the last
// one was. Caches hold only what cannot change (an image's configuration, by digest).
//
// The life of a container, and how each state is told from containerd's records. The labels
// describe the current run; "task" is containerd's word for a container's process:
//
//	          CreateContainer          StartContainer              (it ends)
//	Absent ───────────────────► Created ─────────────► Live ─────────────────► Exited
//	                               ▲   labels: started,   │  task STOPPED, or gone  │
//	  no record       record,      │   task RUNNING       │  or of another boot:    │
//	                  no "started" │                      │  label exit is written  │
//	                               │                      │  by whoever sees it     │
//	                               └──────────────────────┴─────────────────────────┘
//	                                   StartContainer again: the old task is deleted,
//	                                   restarts+1 and the labels of the run emptied first
//
// A crash between any two calls leaves a state that the picture has: a task that was
// created and not started is started by the next StartContainer; a run whose "started" was
// not written yet reads it from /proc; a signal that was sent and not recorded is sent
// again.
//
// All calls to containerd pass one interceptor (calls.go), which gives each its own
// deadline, counts and times it. Only the services that containerd 1.6, 1.7 and 2.x share
// are used.
package containerd
