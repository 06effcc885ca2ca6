package reconcile

import (
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"

	"ecsd/pkg/spec"
)

// Back-off of steps that fail by a fault of the machine.
const (
	backoffFirst = time.Second // from the second failure in a row; the first is tried again at once
	backoffMax   = 60 * time.Second
)

// delay is how long to wait after the nth failure in a row, counted from 1, when the first
// counts already: 1 s, 2 s, 4 s … 60 s, each spread by a fifth so that many who failed
// together do not come back together.
func delay(n int) time.Duration {
	d := backoffMax
	if n < 7 {
		d = min(backoffMax, backoffFirst<<max(0, n-1))
	}
	return d + time.Duration((rand.Float64()-0.5)*0.4*float64(d))
}

// backoff is the item limiter: it counts failures by action of a task.
type backoff struct {
	mu    sync.Mutex
	count map[actionKey]int
}

var _ workqueue.TypedRateLimiter[actionKey] = (*backoff)(nil)

func newBackoff() *backoff { return &backoff{count: map[actionKey]int{}} }

// When counts a failure and says how long to wait: not at all after the first.
func (b *backoff) When(key actionKey) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count[key]++
	if b.count[key] == 1 {
		return 0
	}
	return delay(b.count[key] - 1)
}

// Forget counts anew.
func (b *backoff) Forget(key actionKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.count, key)
}

// NumRequeues is the number of failures in a row.
func (b *backoff) NumRequeues(key actionKey) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count[key]
}

// failed keeps that a step failed and says when to come back.
func (r *Reconciler) failed(key actionKey, err error) time.Duration {
	wait := r.backoff.When(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.tasks[key.task]; e != nil {
		e.failures++
		e.lastErr = string(key.verb) + ": " + err.Error()
		e.retry[key] = time.Now().Add(wait)
	}
	if wait == 0 {
		return now
	}
	return wait
}

// succeeded forgets the failures of a step.
func (r *Reconciler) succeeded(key actionKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.tasks[key.task]
	if e == nil {
		return
	}
	if _, failing := e.retry[key]; !failing {
		return
	}
	delete(e.retry, key)
	r.backoff.Forget(key)
	if len(e.retry) == 0 {
		e.failures, e.lastErr = 0, ""
	}
}

// patience is what is left to wait before a step may be tried again.
func (r *Reconciler) patience(e *entry, key actionKey) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, failing := e.retry[key]
	if !failing {
		return 0
	}
	return max(0, time.Until(until))
}

// retrying reports whether a step's last try failed.
func (r *Reconciler) retrying(e *entry, key actionKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, failing := e.retry[key]
	return failing
}

// stop makes STOPPED what is desired of a task. The first reason counts. r.mu is held.
func (r *Reconciler) stop(e *entry, code, reason string) {
	if e.want.DesiredStatus == spec.StatusStopped {
		return
	}
	e.want.DesiredStatus, e.want.StopCode, e.want.StoppedReason = spec.StatusStopped, code, reason
	for key := range e.retry { // what failed on the way up does not delay the way down
		delete(e.retry, key)
		r.backoff.Forget(key)
	}
	e.failures, e.lastErr = 0, ""
}
