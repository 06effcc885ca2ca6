package reconcile

import (
	"slices"
	"time"

	"ecsd/pkg/runtime"
)

// Inventory is all that Garbage looks at.
type Inventory struct {
	Now runtime.Time
	// Heard: every configured source has said at least once what it wants. Before that
	// nobody can tell a stranger from a task whose source is slow.
	Heard      bool
	Known      map[string]bool // tasks that the reconciler has in hand already
	Observed   []string        // ids of tasks seen on the machine
	Recorded   []string        // ids of tasks with a readable record and no end
	Unreadable map[string]bool // ids of tasks whose record cannot be read
	Ends       []End           // ended tasks that still have records
	// Wait is how long the records and logs of an ended task stay
	// (ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION, by default three hours).
	Wait time.Duration
	// Keep is how many ended tasks of a family stay although Wait is not over, newest
	// first; 0 means fifty. It bounds what a task that fails for ever leaves behind.
	Keep int
}

// Refuse is what is to be cleared away.
type Refuse struct {
	// Strangers are tasks that no source wants: to be wound down from their record or,
	// where there is none, from their labels.
	Strangers []string
	// Spared are tasks that look like strangers, but have a record that cannot be read: they
	// run on, for a broken file must not stop a task.
	Spared []string
	// Forget are ended tasks whose logs and records are to be removed.
	Forget []string
}

// Garbage says what to clear away. It is a function of its argument alone.
func Garbage(in Inventory) Refuse {
	var out Refuse
	if in.Heard {
		seen := map[string]bool{}
		for _, id := range append(slices.Clone(in.Observed), in.Recorded...) {
			switch {
			case in.Known[id] || seen[id]:
			case in.Unreadable[id]:
				out.Spared = append(out.Spared, id)
			default:
				out.Strangers = append(out.Strangers, id)
			}
			seen[id] = true
		}
		slices.Sort(out.Strangers)
		slices.Sort(out.Spared)
	}
	keep := in.Keep
	if keep <= 0 {
		keep = historyPerFamily
	}
	present := map[string]bool{}
	for _, id := range in.Observed {
		present[id] = true
	}
	family := map[string]int{}
	for i := len(in.Ends) - 1; i >= 0; i-- {
		e := in.Ends[i]
		family[e.Status.Family]++
		old := age(in.Now, e.At) >= in.Wait || family[e.Status.Family] > keep
		if old && !present[e.Status.TaskID] {
			out.Forget = append(out.Forget, e.Status.TaskID)
		}
	}
	slices.Sort(out.Forget)
	return out
}

// age is the time since a moment: by the boot clock within one boot; across boots, where
// only the wall clock spans both, by that, and never negative.
func age(now, at runtime.Time) time.Duration {
	if d, ok := now.Since(at); ok {
		return d
	}
	return max(0, now.Wall.Sub(at.Wall))
}
