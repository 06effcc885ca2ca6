// Package network gives containers their network, in process: netlink for bridge, veth
// pairs and addresses, nftables for published and steady ports, and no other program.
//
//	     outside                 the host                        a container
//	┌──────────────┐   ┌─────────────────────────────┐   ┌───────────────────────┐
//	│ client ──────┼──►│ eth0 ─► table inet ecsd0    │   │                       │
//	└──────────────┘   │         tcp 8080 → .2 : 80  │   │                       │
//	  127.0.0.1:8080 ──┼───────►       │             │   │                       │
//	      [::1]:8080 ──┼─► proxy ──┐   ▼             │   │                       │
//	                   │           └► ecsd0 ─ ecXXXX ┼───┼─ eth0 172.30.0.2      │
//	                   │              172.30.0.1     │   │       fdXX:…::2       │
//	                   │              fdXX:…::1      │   │                       │
//	                   └─────────────────────────────┘   └───────────────────────┘
//
// An attachment is one network namespace with its place in this picture. It is a value
// that the caller keeps across restarts; what the machine has of it is compared with that
// value and put right, never the other way round:
//
//	           Attach                    Detach
//	(absent) ──────────► attached ────────────────► (absent)
//	                     │      ▲
//	    others break it  │      │ Attach again, Repair, Run's timer
//	                     ▼      │
//	                     damaged ── Check says what is missing
//
// What keeps serving when the agent is gone is all in the kernel: the pins of the
// namespaces, the bridge, the table. What ends with it are its sockets: those that keep
// programs on the host from taking a published port, and the proxy on ::1.
//
// The table has two kinds of content. Its chains follow from the configuration alone. All
// that comes and goes, ports, services and their backends, are elements of maps and the
// chains of services; a change is one transaction of the kernel's. Whatever transaction
// the kernel refuses, because somebody changed the table meanwhile, is done by replacing
// the whole table by what it should be, again in one transaction. Connections that are
// established live through all of it: their translation is in the connection tracking.
//
// docs/networking.md has the rule set, the sysctls, and who reaches whom.
package network
