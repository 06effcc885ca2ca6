package reconcile

import (
	"fmt"
	"time"

	"ecsd/pkg/spec"
)

// Reasons of events about tasks: a bounded set.
const (
	reasonPending  = "Pending"  // wanted, not running yet
	reasonStarted  = "Started"  // RUNNING
	reasonStopping = "Stopping" // winds down
	reasonStopped  = "Stopped"  // ended
	reasonExited   = "Exited"   // a container ended
	reasonRestart  = "Restarted"
	reasonHealth   = "Health" // a verdict changed
	reasonWaiting  = "Waiting"
	reasonPulled   = "Pulled"
	reasonFailed   = "Failed" // the definition is to blame
	reasonRetry    = "Retry"  // the machine is
	reasonPanic    = "Panic"
)

// changed counts and tells what became different from one view of a task to the next.
func (r *Reconciler) changed(old, v View, first bool) {
	s, id := v.Status, v.Want.ID
	if first || s.LastStatus != old.Status.LastStatus {
		r.moved(old, v, first)
	}
	if s.Waiting != "" && s.Waiting != old.Status.Waiting && v.Have.Blocked != "" {
		r.event(spec.EventWarning, id, reasonWaiting, s.Waiting)
	}
	for _, c := range s.Containers {
		was, seen := old.container(c.Name)
		if c.RestartCount > was.RestartCount && (seen || !first) && !first {
			r.metrics.restarts.WithLabelValues(s.Family, c.Name).Add(float64(c.RestartCount - was.RestartCount))
			r.event(spec.EventNormal, id, reasonRestart, fmt.Sprintf("container %s was restarted by its restart policy, for the %d. time", c.Name, c.RestartCount))
		}
		if kills := v.Have.Task.Containers[c.Name].OOMKills - old.Have.Task.Containers[c.Name].OOMKills; kills > 0 && !first {
			r.metrics.oom.WithLabelValues(s.Family, c.Name).Add(float64(kills))
		}
		if !first && c.FinishedAt != nil && (was.FinishedAt == nil || c.FinishedAt.After(*was.FinishedAt)) {
			kind := spec.EventNormal
			if c.ExitCode == nil || *c.ExitCode != 0 {
				kind = spec.EventWarning
			}
			r.event(kind, id, reasonExited, exitedText(c))
		}
		if !first && was.HealthStatus != c.HealthStatus && was.HealthStatus != "" && c.HealthStatus != "" {
			r.event(spec.EventNormal, id, reasonHealth, fmt.Sprintf("container %s is %s, was %s", c.Name, c.HealthStatus, was.HealthStatus))
		}
	}
}

func exitedText(c spec.ContainerStatus) string {
	text := "container " + c.Name + " exited with an unknown code"
	if c.ExitCode != nil {
		text = fmt.Sprintf("container %s exited with code %d", c.Name, *c.ExitCode)
	}
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}

// container finds a container's status in a view.
func (v View) container(name string) (spec.ContainerStatus, bool) {
	for _, c := range v.Status.Containers {
		if c.Name == name {
			return c, true
		}
	}
	return spec.ContainerStatus{}, false
}

// moved counts and tells a change of a task's last status. What a new agent finds is no
// change, but for tasks that are yet to start.
func (r *Reconciler) moved(old, v View, first bool) {
	s, id := v.Status, v.Want.ID
	if first && (v.Ended || s.LastStatus == spec.StatusRunning) {
		return
	}
	r.metrics.moves.WithLabelValues(s.Family, s.LastStatus).Inc()
	switch s.LastStatus {
	case spec.StatusPending:
		r.event(spec.EventNormal, id, reasonPending, "task of "+s.Family+" is to run")
	case spec.StatusRunning:
		r.event(spec.EventNormal, id, reasonStarted, "all containers have started")
		r.metrics.started(s)
	case spec.StatusStopping:
		r.event(spec.EventNormal, id, reasonStopping, s.StoppedReason)
	case spec.StatusStopped:
		r.metrics.stops.WithLabelValues(s.Family, s.StopCode).Inc()
		r.event(spec.EventNormal, id, reasonStopped, s.StoppedReason)
	}
}

// started measures how long a task took to run.
func (m *metrics) started(s spec.TaskStatus) {
	span := func(phase string, from, to *time.Time) {
		if from != nil && to != nil && !to.Before(*from) {
			m.start.WithLabelValues(phase).Observe(to.Sub(*from).Seconds())
		}
	}
	span("pull", s.PullStartedAt, s.PullStoppedAt)
	span("total", s.CreatedAt, s.StartedAt)
}
