// Package spec is ecsd's vocabulary: ECS task definitions, services, tasks and their
// statuses, with the JSON names of the ECS API, and the pure steps that lead from a file
// to something that can run:
//
//	bytes ── Decode ──► Document ── Default ──► complete ── Validate ──► errors, all at once
//	                                               │
//	                                               └── OCI(task, container, image, host) ──► runtime spec
//
// It does no I/O, starts no goroutine and reads no clock. Everything else in ecsd is
// built on it; it is built on nothing of ecsd.
package spec
