package deploy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// patience is how long nothing is to move before an event tells so: room that has just
// been freed takes a moment to be given away.
const patience = 3 * time.Second

// Kinds of standstill.
const (
	saidStuck   = "stuck"
	saidBlocked = "blocked"
)

// Event is something to tell about a service.
type Event struct {
	Reason  string // one of the words below
	Warning bool   // somebody should look
	Message string // in ECS's words where it has them
}

// Reasons of events.
const (
	ReasonDeploymentStarted   = "DeploymentStarted"
	ReasonDeploymentCompleted = "DeploymentCompleted"
	ReasonDeploymentFailed    = "DeploymentFailed"
	ReasonRollingBack         = "RollingBack"
	ReasonTasksStarted        = "TasksStarted"
	ReasonTasksStopped        = "TasksStopped"
	ReasonTasksFailing        = "TasksFailing"
	ReasonTaskUnhealthy       = "TaskUnhealthy"
	ReasonDraining            = "Draining"
	ReasonSteadyState         = "SteadyState"
	ReasonStuck               = "ServiceStuck"
	ReasonBlocked             = "TaskBlocked"
)

// tell adds an event, warn one that somebody should look at.
func (p *pass) tell(reason, format string, args ...any) {
	p.out.Events = append(p.out.Events, Event{Reason: reason, Message: line(p.svc.Name, fmt.Sprintf(format, args...))})
}

func (p *pass) warn(reason, format string, args ...any) {
	p.out.Events = append(p.out.Events, Event{Reason: reason, Warning: true, Message: line(p.svc.Name, fmt.Sprintf(format, args...))})
}

func line(service, text string) string { return "(service " + service + ") " + text }

// DeploymentStarted is the event of a new deployment of a definition ("web:3").
func DeploymentStarted(service, id, definition string) Event {
	return Event{Reason: ReasonDeploymentStarted, Message: line(service, "(deployment "+id+") deployment of "+definition+" in progress.")}
}

// TasksStarted is the event of tasks that a service has started: whoever carries out
// Steps.Start knows their ids.
func TasksStarted(service string, ids []string) Event {
	return Event{Reason: ReasonTasksStarted, Message: line(service, fmt.Sprintf("has started %d tasks: %s.", len(ids), taskList(ids)))}
}

func stopped(ids []string) string {
	return fmt.Sprintf("has stopped %d running tasks: %s.", len(ids), taskList(ids))
}

func taskList(ids []string) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("(task " + id + ")")
	}
	return b.String()
}

// say puts the decisions into words, and closes the state.
func (p *pass) say() {
	if n := len(p.out.Drain); n > 0 {
		p.tell(ReasonDraining, "has begun draining connections on %d tasks.", n)
	}
	if len(p.out.Stop) > 0 {
		ids := make([]string, len(p.out.Stop))
		for i, s := range p.out.Stop {
			ids[i] = s.ID
		}
		p.tell(ReasonTasksStopped, "%s", stopped(ids))
	}
	p.sayStandstill()
	steady := p.steady()
	if p.count(is(unseen)) > 0 {
		steady = p.st.Steady // until all have been seen again, nothing is known to have changed
	}
	if steady && !p.st.Steady {
		p.tell(ReasonSteadyState, "has reached a steady state.")
	}
	p.st.Steady = steady
	if p.out.Waiting == "" && !steady {
		p.out.Waiting = p.unsteadyText()
	}
	p.out.State = p.st
}

// sayStandstill tells why nothing moves, once that has lasted for patience, and again only
// after something moved.
func (p *pass) sayStandstill() {
	kind, reason, text := "", "", ""
	if p.stuck != "" {
		reason = ReasonStuck
		kind, p.out.Waiting = saidStuck, p.stuck
		text = "was unable to stop or start tasks during a deployment because of the service deployment configuration. " +
			"Update the minimumHealthyPercent or maximumPercent value and try again. Reason: " + p.stuck + "."
	} else if b := p.blocked(); b != nil && p.count(is(leaving)) == 0 {
		reason = ReasonBlocked
		kind, p.out.Waiting = saidBlocked, "task "+b.ID+" waits for room on the host: "+b.Blocked
		text = "was unable to place a task. Reason: " + b.Blocked + "."
	}
	if kind == "" {
		p.st.Standstill = Standstill{}
		return
	}
	if p.st.Standstill.Kind != kind {
		p.st.Standstill = Standstill{Kind: kind, Since: p.now}
	}
	if p.st.Standstill.Told {
		return
	}
	if left, over := elapsed(p.now, p.st.Standstill.Since, patience); !over {
		p.wake(left)
		return
	}
	p.st.Standstill.Told = true
	p.warn(reason, "%s", text)
}

// blocked is the first task that waits for room which nobody is about to free.
func (p *pass) blocked() *item {
	if p.count(active, victim) > 0 {
		return nil // room is being made
	}
	i := slices.IndexFunc(p.items, func(it *item) bool { return it.kind == pending && it.Blocked != "" })
	if i < 0 {
		return nil
	}
	return p.items[i]
}

func (p *pass) unsteadyText() string {
	if p.svc.Removed {
		if n := p.count(not(gone)); n > 0 {
			return fmt.Sprintf("it is being removed: %d tasks are not stopped yet", n)
		}
		return ""
	}
	if n := p.count(is(unseen)); n > 0 {
		return fmt.Sprintf("nothing has been reported of %d tasks yet", n)
	}
	if n := p.count(old, not(gone)); n > 0 {
		return fmt.Sprintf("%d of %d tasks of the newest deployment are healthy, %d older tasks are not stopped yet",
			p.count(mine, is(healthy)), p.svc.Desired, n)
	}
	text := fmt.Sprintf("%d of %d tasks are healthy", p.count(mine, is(healthy), staying), p.svc.Desired)
	if n := p.count(is(leaving)) + p.count(active, victim); n > 0 {
		text += fmt.Sprintf(", %d are being stopped", n)
	}
	return text
}

func restingText(failed int, left time.Duration) string {
	return fmt.Sprintf("%d tasks failed in a row: the next start is in %s", failed, left.Round(time.Second/10))
}

func failedText(s Service) string {
	return "the newest deployment failed and nothing was rolled back; what ran before is kept: change the task definition, or run `ecsd restart " + s.Name + "` to try it again"
}

func stuckText(s Service, why string) string {
	return fmt.Sprintf("%s: with %d tasks, minimumHealthyPercent %d wants %d healthy and maximumPercent %d allows %d in all",
		why, s.Desired, s.MinimumHealthyPercent, s.Lower(), s.MaximumPercent, s.Upper())
}
