package deploy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"ecsd/pkg/spec"
)

// Plan says what a service does now. It is a function of its arguments alone, changes
// none of them, and its answer for a service that is as it should be is empty but for the
// State, Serve and Counted, which repeat. Carried out and asked again, it comes to rest.
func Plan(svc Service, st State, tasks []Task, now spec.Time) Steps {
	p := newPass(svc, st, tasks, now)
	if p.st.Primary() == nil {
		return Steps{State: p.st}
	}
	p.countFailures()
	p.breakCircuit()
	p.forgive()
	p.complete()
	p.drop()

	switch {
	case svc.Removed || svc.Desired <= 0:
		p.dismissAll()
	case p.st.Primary().State == spec.RolloutFailed:
		p.hold()
	default:
		p.roll()
	}
	p.leave()
	p.say()
	return p.out
}

// kind is what a task counts as in one Plan.
type kind int

const (
	gone      kind = iota // nothing left
	leaving               // on its way out: asked to stop, or winding down by itself
	unseen                // nobody has told
	pending               // not RUNNING yet
	settling              // RUNNING, not yet known to be healthy
	unhealthy             // RUNNING, judged UNHEALTHY
	healthy               // RUNNING and what minimumHealthyPercent counts
)

// item is a task with what the pass has found out about it.
type item struct {
	Task
	kind   kind
	old    bool   // of a deployment that is not the primary
	reason string // why it is to go; "" when it stays
}

func (it *item) active() bool { return it.kind >= unseen }
func (it *item) victim() bool { return it.reason != "" }
func (it *item) draining() bool {
	return !it.Task.Draining.IsZero()
}

// pass is one Plan at work.
type pass struct {
	svc    Service
	st     State
	now    spec.Time
	items  []*item // in the order in which tasks are given up
	out    Steps
	budget int // healthy tasks that may still be stopped
	stuck  string
}

func newPass(svc Service, st State, tasks []Task, now spec.Time) *pass {
	p := &pass{svc: svc, st: st.clone(), now: now}
	if svc.Removed {
		p.svc.Desired = 0
	}
	for _, t := range tasks {
		it := &item{Task: t}
		it.kind = p.judge(t)
		p.items = append(p.items, it)
		if it.kind == healthy {
			p.budget++
		}
	}
	p.budget -= p.svc.Lower()
	p.markOld()
	slices.SortFunc(p.items, giveUpOrder)
	return p
}

// judge says what a task counts as, and notes when that will change by itself.
func (p *pass) judge(t Task) kind {
	switch {
	case t.Phase == Stopped:
		return gone
	case t.Asked || t.Phase == Stopping:
		return leaving
	case t.Phase == Unseen:
		return unseen
	case t.Phase == Pending:
		return pending
	case t.Health == spec.HealthUnhealthy:
		if left, over := elapsed(p.now, t.Since, p.svc.Grace); !over {
			p.wake(left)
			return settling
		}
		return unhealthy
	case t.Checked:
		if t.Health == spec.HealthHealthy {
			return healthy
		}
		return settling
	}
	if left, over := elapsed(p.now, t.Since, p.svc.Stable); !over {
		p.wake(left)
		return settling
	}
	return healthy
}

// giveUpOrder sorts first what is the least loss: what serves nobody, then the youngest.
func giveUpOrder(a, b *item) int {
	rank := func(it *item) int {
		switch {
		case it.kind == pending && it.Blocked != "":
			return 0
		case it.kind == pending:
			return 1
		case it.kind == unhealthy:
			return 2
		case it.kind == settling:
			return 3
		case it.kind == healthy:
			return 4
		}
		return 5
	}
	return cmp.Or(
		cmp.Compare(rank(a), rank(b)),
		b.Created.Wall.Compare(a.Created.Wall),
		strings.Compare(b.ID, a.ID),
	)
}

func (p *pass) markOld() {
	primary := p.st.Primary()
	for _, it := range p.items {
		it.old = primary == nil || it.Deployment != primary.ID
	}
}

// wake notes that something will have changed after d.
func (p *pass) wake(d time.Duration) {
	if d > 0 && (p.out.After == 0 || d < p.out.After) {
		p.out.After = d
	}
}

// count counts the tasks that all conditions hold for.
func (p *pass) count(conds ...func(*item) bool) (n int) {
	for _, it := range p.items {
		if !slices.ContainsFunc(conds, func(c func(*item) bool) bool { return !c(it) }) {
			n++
		}
	}
	return n
}

// Conditions for count.

func active(it *item) bool        { return it.active() }
func mine(it *item) bool          { return !it.old }
func old(it *item) bool           { return it.old }
func victim(it *item) bool        { return it.victim() }
func staying(it *item) bool       { return !it.victim() }
func is(k kind) func(*item) bool  { return func(it *item) bool { return it.kind == k } }
func not(k kind) func(*item) bool { return func(it *item) bool { return it.kind != k } }

// underWay is a task that may become healthy without anything being done.
func underWay(it *item) bool {
	return it.kind == unseen || it.kind == settling || it.kind == pending && it.Blocked == ""
}
