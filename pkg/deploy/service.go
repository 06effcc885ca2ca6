package deploy

import (
	"time"

	"ecsd/pkg/spec"
)

// What Options default to, and limits that are not options.
const (
	// DefaultStable is how long a task without health check is to be RUNNING before it
	// counts as healthy. ECS waits 40 s; one node can do with less, as a program that
	// cannot start mostly ends at once.
	DefaultStable = 1 * time.Second
	// DefaultBake is how long such a task is to be RUNNING before a deployment that the
	// circuit breaker watches is COMPLETED: ECS's 40 s. Traffic moves after Stable already;
	// only the watch lasts longer, so that a task which starts and then fails counts.
	DefaultBake = 40 * time.Second
	// DefaultDrain is the pause between a task's leaving the service's steady ports and
	// its stop signal.
	DefaultDrain = 1 * time.Second
	// ResetAfter is how long a task is to run before its failure no longer belongs to a
	// row: back-off and the count of failed tasks begin anew.
	ResetAfter = 60 * time.Second
	// MaxBackoff bounds the pause before a task that keeps failing is replaced.
	MaxBackoff = 60 * time.Second
)

// Service is what Plan wants to know of a service.
type Service struct {
	Name string
	// Desired is the number of tasks wanted: desiredCount, or for a DAEMON the number of
	// nodes it is to run on.
	Desired               int
	MinimumHealthyPercent int
	MaximumPercent        int
	Breaker               bool // deploymentCircuitBreaker.enable
	Rollback              bool // deploymentCircuitBreaker.rollback
	// Grace is healthCheckGracePeriodSeconds: so long after its start a task is not
	// judged UNHEALTHY.
	Grace time.Duration
	// Removed says that the service is no longer wanted: all its tasks are to go.
	Removed bool

	Stable time.Duration // see DefaultStable
	Bake   time.Duration // see DefaultBake
	Drain  time.Duration // see DefaultDrain; 0 for a service without a steady port
}

// Options are the times that a node or a cluster may choose; zero means the default, and
// a negative one none at all.
type Options struct {
	Stable, Bake, Drain time.Duration
}

// FromService takes from an ECS service what Plan wants to know. nodes counts the nodes
// that a DAEMON is to run on. Members that are not set have ECS's defaults: 100/200, and
// 0/100 for a DAEMON, whose maximum is never another.
func FromService(s spec.Service, nodes int, o Options) Service {
	out := Service{
		Name:                  s.ServiceName,
		Desired:               1,
		MinimumHealthyPercent: 100,
		MaximumPercent:        200,
		Stable:                orDefault(o.Stable, DefaultStable),
		Bake:                  orDefault(o.Bake, DefaultBake),
	}
	if s.DesiredCount != nil {
		out.Desired = *s.DesiredCount
	}
	daemon := s.SchedulingStrategy == spec.StrategyDaemon
	if daemon {
		out.Desired, out.MinimumHealthyPercent, out.MaximumPercent = nodes, 0, 100
	}
	if c := s.DeploymentConfiguration; c != nil {
		if c.MinimumHealthyPercent != nil {
			out.MinimumHealthyPercent = *c.MinimumHealthyPercent
		}
		if c.MaximumPercent != nil && !daemon {
			out.MaximumPercent = *c.MaximumPercent
		}
		if b := c.DeploymentCircuitBreaker; b != nil {
			out.Breaker = b.Enable != nil && *b.Enable
			out.Rollback = out.Breaker && b.Rollback != nil && *b.Rollback
		}
	}
	if s.HealthCheckGracePeriodSeconds != nil {
		out.Grace = time.Duration(*s.HealthCheckGracePeriodSeconds) * time.Second
	}
	if HasSteadyPort(s) {
		out.Drain = orDefault(o.Drain, DefaultDrain)
	}
	return out
}

// HasSteadyPort reports whether the service publishes a port over its tasks.
func HasSteadyPort(s spec.Service) bool {
	c := s.ServiceConnectConfiguration
	if c == nil || c.Enabled == nil || !*c.Enabled {
		return false
	}
	for _, p := range c.Services {
		if len(p.ClientAliases) > 0 {
			return true
		}
	}
	return false
}

// Lower is the number of healthy tasks that a deployment may not go below:
// ceil(desired × minimumHealthyPercent / 100).
func (s Service) Lower() int {
	return (s.Desired*s.MinimumHealthyPercent + 99) / 100
}

// Upper is the number of tasks that may exist at once: floor(desired × maximumPercent /
// 100). ECS counts RUNNING and PENDING ones; here one that is still stopping counts too,
// since it still holds memory and ports.
func (s Service) Upper() int {
	return s.Desired * s.MaximumPercent / 100
}

// Threshold is the number of failed tasks at which the circuit breaker trips, as ECS
// documents it: half of the desired count rounded up, at least 3 and at most 200.
func Threshold(desired int) int {
	return min(200, max(3, (desired+1)/2))
}

func orDefault(d, def time.Duration) time.Duration {
	switch {
	case d < 0:
		return 0
	case d == 0:
		return def
	default:
		return d
	}
}
