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
	Task     runtime.Task
	Admitted bool              // host CPU, memory and ports are set aside for it
	Blocked  string            // why not, in words, when not Admitted
	Pulls    map[string]Pull   // image pulls by container name
	Health   map[string]Health // verdicts by container name; absent means UNKNOWN
	// Failed holds the final errors of steps, by container name, "" for the task itself:
	// what the definition is to blame for. They end the task.
	Failed map[string]*runtime.TaskError
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

// View is one task as the reconciler sees it: what readers (CLI, metrics, introspection,
// health prober) get. It is a value and is not changed after it has been handed out.
type View struct {
	Want     spec.Task
	Have     Observed
	Status   spec.TaskStatus
	Failures int           // consecutive failed steps
	Retry    time.Duration // until the next try, when backing off
}
