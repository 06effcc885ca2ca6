package health

import (
	"fmt"
	"time"

	"ecsd/pkg/spec"
)

// Check is a container's health check with its defaults filled in.
type Check struct {
	Args        []string // the command, as it is executed
	Interval    time.Duration
	Timeout     time.Duration
	StartPeriod time.Duration
	Retries     int
}

// ECS's defaults.
const (
	defaultInterval = 30 * time.Second
	defaultTimeout  = 5 * time.Second
	defaultRetries  = 3
)

// CheckOf is the health check of a container definition; ok is false when it has none.
func CheckOf(c spec.ContainerDefinition) (check Check, ok bool) {
	h := c.HealthCheck
	if h == nil || len(h.Command) == 0 {
		return Check{}, false
	}
	check = Check{
		Interval:    seconds(h.Interval, defaultInterval),
		Timeout:     seconds(h.Timeout, defaultTimeout),
		StartPeriod: seconds(h.StartPeriod, 0),
		Retries:     defaultRetries,
	}
	if h.Retries != nil && *h.Retries > 0 {
		check.Retries = *h.Retries
	}
	switch kind, rest := h.Command[0], h.Command[1:]; kind {
	case "NONE":
		return Check{}, false
	case "CMD-SHELL":
		if len(rest) == 0 {
			return Check{}, false
		}
		// What follows the first is given to the shell as $0, $1, …, as Docker does.
		check.Args = append([]string{"/bin/sh", "-c"}, rest...)
	case "CMD":
		check.Args = rest
	default:
		check.Args = h.Command
	}
	return check, len(check.Args) > 0
}

func seconds(n *int, otherwise time.Duration) time.Duration {
	if n == nil || (*n <= 0 && otherwise > 0) {
		return otherwise
	}
	return time.Duration(max(*n, 0)) * time.Second
}

// State is what is known of the health of one run of a container.
type State struct {
	Status  string    // spec.HealthUnknown, HealthHealthy, HealthUnhealthy
	Since   spec.Time // when it became so
	Started spec.Time // of the run
	Passed  bool      // some check has succeeded: the start period is over

	Failures int       // counted ones, in a row
	Counted  spec.Time // of the latest check that counted; at first, the start

	Code   int    // of the latest check
	Output string // of the latest check, or why there was none
}

// Begin is the state of a run that started at that moment.
func Begin(started spec.Time) State {
	return State{Status: spec.HealthUnknown, Since: started, Started: started, Counted: started}
}

// Result is how one check ended.
type Result struct {
	Code   int // of the command; 0 is success
	Output string
	// Fault says that the command could not be run for a reason that is not the
	// container's: nothing follows from it.
	Fault bool
}

// Next is the state after a check that ended now. It is the same whether checks come on
// time or late: only moments are compared, none are counted on.
func Next(s State, r Result, c Check, now spec.Time) State {
	s.Code, s.Output = r.Code, r.Output
	if r.Fault {
		return s
	}
	if r.Code == 0 {
		s.Passed, s.Failures, s.Counted = true, 0, now
		return s.become(spec.HealthHealthy, now)
	}
	if !counts(s, c, now) {
		return s
	}
	s.Failures++
	s.Counted = now
	if s.Failures >= c.Retries {
		return s.become(spec.HealthUnhealthy, now)
	}
	return s
}

func (s State) become(status string, now spec.Time) State {
	if s.Status != status {
		s.Status, s.Since = status, now
	}
	return s
}

// counts tells whether a failure is held against the container.
func counts(s State, c Check, now spec.Time) bool {
	if s.Passed {
		return true
	}
	if age, ok := now.Since(s.Started); ok && age < c.StartPeriod {
		return false
	}
	// Not yet due: one of the early checks.
	since, ok := now.Since(s.Counted)
	return !ok || since >= c.Interval-spread(c.Interval)
}

// spread is how much earlier or later than the interval a check may come, so that many
// of them do not come at once.
func spread(interval time.Duration) time.Duration { return interval / 10 }

// firstPause is the pause between a container's start and its first check, unless the
// interval is shorter.
const firstPause = time.Second

// Delay is the time from now to the next check: the interval, once there is a verdict;
// before, a second, then as long as the run is old, but not beyond the moment at which
// the next failure would count.
func Delay(s State, c Check, now spec.Time) time.Duration {
	age, ok := now.Since(s.Started)
	if s.Passed || s.Status != spec.HealthUnknown || !ok {
		return c.Interval
	}
	pause := min(max(firstPause, age), c.Interval)
	if since, ok := now.Since(s.Counted); ok {
		if due := c.Interval - since; due > 0 {
			pause = min(pause, due)
		}
	}
	return pause
}

// String says the state in a line, for logs.
func (s State) String() string {
	if s.Status == spec.HealthHealthy || s.Output == "" {
		return s.Status
	}
	return fmt.Sprintf("%s (exit %d: %.200q)", s.Status, s.Code, s.Output)
}
