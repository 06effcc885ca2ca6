package reconcile

import "time"

// stuckAfter is how long the loop may show no progress before it counts as stuck: longer
// than any single call of a runtime that still keeps its deadlines.
const stuckAfter = 2 * time.Minute

// Alive reports whether the loop turns: whether it has looked at the machine, in vain or
// not, within the last minutes. It is what a watchdog wants to know; a container runtime
// that does not answer leaves the loop alive.
func (r *Reconciler) Alive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turned.IsZero() {
		return true // nothing has been asked yet
	}
	d, ok := r.cfg.Now().Since(r.turned)
	return !ok || d < stuckAfter+r.cfg.Resync+r.cfg.CallTimeout
}
