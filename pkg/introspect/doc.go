// Package introspect is the port that only reads: what a machine's agent tells anybody
// who may connect to its loopback address. It speaks the Amazon ECS agent's introspection
// API (/v1/metadata, /v1/tasks), so that what was written for that agent finds here what
// it expects, and adds metrics and health.
//
//	                  ┌──────────────── Handler ────────────────────────┐
//	127.0.0.1:51678 ──►                                                  │
//	    [::1]:51678 ──►  Host check ─► exact path ─► GET? ─► route table │──► Config's functions
//	                  └──────────────────────────────────────────────────┘    (values only)
//	 metrics-listen ──►  TLS, basic auth ─► /metrics only
//
// Reading only is a matter of construction, not of care: a route is a function from query
// values to an answer. It sees no request, no body and no method, and the functions it is
// built from (see Config) hand out values and take nothing. Everything that acts goes over
// the unix socket of package localapi.
//
// The history of this port is the reason for the rest. Agents that listened on all
// addresses told the neighbours of a machine, and its own tasks, which tasks run there
// (CVE-2025-9039); firewall rules that were to mend it missed interfaces. So the default
// is loopback alone, names in the Host header are checked (a web page that rebinds its
// name to 127.0.0.1 is refused), no answer carries an environment value, a command or a
// reference to a secret, and monitoring from elsewhere has a listener of its own.
package introspect
