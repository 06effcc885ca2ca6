package reconcile

import (
	"context"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// Source is where desired state comes from, and where status goes back to.
type Source interface {
	// Run calls set with the complete set of tasks this source wants, first as soon as
	// it knows it and again whenever it changes. What a set leaves out is to be stopped.
	// A source that cannot know does not call set: silence means "as before", never "nothing".
	Run(ctx context.Context, set func([]spec.Task)) error
	// Report tells the source a task's latest status. It must not block; only the latest
	// status of a task matters. It may repeat.
	Report(spec.TaskStatus)
}

// Observed is everything known of one task when a plan is made: what the runtime sees,
// and the state of whatever takes time. It is a value.
type Observed struct {
	// At is when this was observed; Status reads the clock here. Zero means that no timer
	// has run out and that nothing is known to be of an earlier boot.
	At       runtime.Time
	Task     runtime.Task
	Admitted bool              // host CPU, memory and ports are set aside for it
	Blocked  string            // why not, in words, when not Admitted
	Pulls    map[string]Pull   // image pulls by container name
	Health   map[string]Health // verdicts by container name; absent means UNKNOWN
	// Failed holds the final errors of steps, by container name, "" for the task itself:
	// what the definition is to blame for. They end the task, unless they are those of a
	// container that is not essential, which then counts as one that never ran.
	Failed map[string]*runtime.TaskError
	// StopTimeout is this host's for containers that name none (ECS_CONTAINER_STOP_TIMEOUT);
	// 0 means thirty seconds.
	StopTimeout time.Duration
}

// Pull is the state of one image pull.
type Pull struct {
	Started, Done runtime.Time // zero: not yet
	Image         runtime.Image
	Err           *runtime.TaskError // final failure
}

// Health is a container's verdict.
type Health struct {
	Status string // spec.HealthUnknown, …
	Since  runtime.Time
	Output string // of the last check
	Code   int
}

// Verb is what an action does; each is one call of the runtime.
type Verb string

// The verbs of a plan.
const (
	PullImage       Verb = "PullImage" // of one container; runs outside the workers
	CreateSandbox   Verb = "CreateSandbox"
	CreateContainer Verb = "CreateContainer"
	StartContainer  Verb = "StartContainer" // for an exited one: again, by its restart policy
	StopContainer   Verb = "StopContainer"
	KillContainer   Verb = "KillContainer"
	RemoveContainer Verb = "RemoveContainer"
	RemoveSandbox   Verb = "RemoveSandbox"
)

// Action is one step of a plan.
type Action struct {
	Verb      Verb
	Container string // "" for the sandbox
	Why       string // in words a user can act on
}

// Steps is a plan: what to do now, and when to look again if nothing happens.
type Steps struct {
	// Actions are independent of one another and may run at the same time. What must come
	// after them is found by the next Plan.
	Actions []Action
	// After is how long to wait before planning again although nothing changed; 0 means
	// that only a change can lead anywhere.
	After time.Duration
	// Waiting says what the task waits for, in words an operator can act on.
	Waiting string
}

// View is one task as the reconciler sees it: what readers (CLI, metrics, introspection,
// health prober) get. It is a value and is not changed after it has been handed out.
type View struct {
	Want     spec.Task
	Have     Observed
	Status   spec.TaskStatus
	Ended    bool          // its end is on record; Have holds what is still to be cleared away
	Failures int           // consecutive failed steps
	Retry    time.Duration // until the next try, when backing off
	LastErr  string        // of the latest failed step, while it has not succeeded since
}
