// Package localapi is the socket that acts: the HTTP/1.1 and JSON interface between the
// agent and the ecsd commands on the same machine. Server is the agent's end, Client the
// commands'; each operation is one file that holds its route, its shapes and its client
// method.
//
//	ecsd ps, stop, …                     agent
//	┌────────┐   unix socket, 0660   ┌───────────────────────────────────────────────┐
//	│ Client ├──────────────────────►│ SO_PEERCRED ─► allowed? ─► operation ─► audit │─► Config's functions
//	└────────┘                       └───────────────────────────────────────────────┘
//
// Who may connect is decided by the file's mode, and what a caller may do by the
// credentials that the kernel gives for its end: root and the agent's own user may do all,
// others only look. Every acting call is written to the agent's log with uid and pid,
// allowed or not.
//
// Answers use the member names of the ECS API. They hold the definitions of tasks, but
// never a value of an environment variable: see Mask.
//
// Failures are values of type *Error with one of a few codes, which the commands turn into
// exit codes.
package localapi
