package deploy

import (
	"slices"
	"time"

	"ecsd/pkg/spec"
)

// State is what has to be remembered of a service between two Plans, across restarts too.
// Plan takes one and returns the next.
type State struct {
	// Deployments, the newest (the primary) first.
	Deployments []Deployment `json:"deployments"`
	// Steady says that the steady state has been announced and still holds.
	Steady bool `json:"steady,omitempty"`
	// Standstill is what keeps the service from moving, when something does.
	Standstill Standstill `json:"standstill,omitzero"`
}

// Standstill says that a service cannot move, since when, and whether an event has told so.
type Standstill struct {
	Kind  string    `json:"kind"` // "stuck" by its percentages, or "blocked" for want of room on the host
	Since spec.Time `json:"since"`
	Told  bool      `json:"told,omitempty"`
}

// Primary is the newest deployment, nil when there is none.
func (s State) Primary() *Deployment {
	if len(s.Deployments) == 0 {
		return nil
	}
	return &s.Deployments[0]
}

// Find returns the deployment of that id, nil when there is none.
func (s State) Find(id string) *Deployment {
	for i := range s.Deployments {
		if s.Deployments[i].ID == id {
			return &s.Deployments[i]
		}
	}
	return nil
}

// Deploy returns the state with a new primary deployment of that id and revision. If one
// of that id is there already it becomes the primary again, in progress, with its counts
// at zero: the tasks it still has are kept.
func (s State) Deploy(id string, revision int, now spec.Time) State {
	d := Deployment{ID: id, Revision: revision, Created: now}
	rest := make([]Deployment, 0, len(s.Deployments)+1)
	for _, o := range s.Deployments {
		if o.ID == id {
			d = o
			continue
		}
		o.Hold = 0 // a newer definition takes over from whatever was being held
		rest = append(rest, o)
	}
	d.State, d.Reason = spec.RolloutInProgress, "ECS deployment "+id+" in progress."
	d.Failed, d.Level, d.FailedAt, d.Hold, d.Rollback, d.Updated = 0, 0, spec.Time{}, 0, false, now
	s.Deployments = append([]Deployment{d}, rest...)
	s.Standstill = Standstill{}
	return s
}

func (s State) clone() State {
	s.Deployments = slices.Clone(s.Deployments)
	return s
}

// Deployment is one definition on its way to be, or being, what a service runs.
type Deployment struct {
	ID       string `json:"id"`
	Revision int    `json:"revision"` // of the service's definition, from 1
	State    string `json:"state"`    // spec.RolloutInProgress, …
	Reason   string `json:"reason,omitempty"`

	Created spec.Time `json:"created"`
	Updated spec.Time `json:"updated"`

	Completed bool `json:"completed,omitempty"` // has been COMPLETED once: a rollback may come back to it
	Rollback  bool `json:"rollback,omitempty"`  // is primary because a newer one failed
	Hold      int  `json:"hold,omitempty"`      // tasks to keep although a newer deployment FAILED without rollback

	Failed   int       `json:"failed,omitempty"`  // tasks that failed in a row
	Level    int       `json:"level,omitempty"`   // generations of tasks that failed in a row: what back-off grows with
	FailedAt spec.Time `json:"failedAt,omitzero"` // the latest failure
}

// Phase is how far a task has come, as last reported.
type Phase int

// Phases of a task, in their order.
const (
	Unseen   Phase = iota // exists; nothing reported yet, as after a restart of the agent
	Pending               // not yet RUNNING
	Running               //
	Stopping              // winding down
	Stopped               // nothing is left
)

func (p Phase) String() string {
	return [...]string{"UNSEEN", "PENDING", "RUNNING", "STOPPING", "STOPPED"}[p]
}

// Task is what Plan wants to know of one task of the service. All tasks that are not
// Stopped are to be in its argument, and those Stopped ones whose end has not been counted.
type Task struct {
	ID         string
	Deployment string
	Phase      Phase
	Asked      bool      // it has been asked to stop (by Plan, or by a user): its end is no failure
	Checked    bool      // an essential container has a health check
	Health     string    // spec.HealthHealthy, …; "" is unknown
	Created    spec.Time // when it was made
	Since      spec.Time // when it was first seen RUNNING; zero: never
	Draining   spec.Time // when it left the steady ports; zero: it has not

	Blocked string   // what of the host's it was not given, in words; "" when nothing is missing
	Holders []string // older tasks of the service that hold what it is blocked by

	Attempt int  // Steps.Attempt of the Plan that started it
	Counted bool // its failure is in the State already (Steps.Counted)
}

// Stop is a task to stop, and why, in ECS's words.
type Stop struct {
	ID     string
	Reason string
}

// Steps is what to do now. The parts are to be carried out in the order of the fields:
// what a task serves is settled before any is stopped, and State is remembered with
// Counted in one write.
type Steps struct {
	State   State    // to remember from now on
	Counted []string // all tasks whose failure is in State, sorted

	Serve  []string // tasks that are to be behind the steady ports now, sorted; nobody else is
	Drain  []string // tasks that have just left them on their way out: to come back as Task.Draining
	Revive []string // tasks that were draining and are wanted after all: Task.Draining is to be zero again
	Stop   []Stop   // tasks to ask to stop

	Target  string // deployment that Start is about
	Start   int    // tasks to start
	Attempt int    // to come back as their Task.Attempt

	Events  []Event       // what to tell
	Waiting string        // what keeps the service from being as it should; "" when nothing does
	After   time.Duration // when to ask again although nothing has changed; 0: no need
}
