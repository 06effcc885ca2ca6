package deploy

import (
	"slices"

	"ecsd/pkg/spec"
)

// dismissAll lets every task go: the service is removed, or wants none.
func (p *pass) dismissAll() {
	reason := p.scaling()
	if p.svc.Removed {
		reason = "Service " + p.svc.Name + " was removed"
	}
	for _, it := range p.items {
		if it.active() {
			it.reason = reason
		}
	}
}

// roll takes the service nearer to its primary deployment.
func (p *pass) roll() {
	d := p.st.Primary()
	missing := p.svc.Desired - p.count(mine, active, not(unhealthy))
	room := p.svc.Upper() - p.count(not(gone))
	resting := p.start(d, missing, room)

	for _, it := range p.items { // serves nobody, and its definition is no longer wanted
		if it.old && it.kind == pending {
			it.reason = p.scaling()
		}
	}
	p.replaceOld(missing, room, resting)
	p.dismissSurplus()
	p.unblock()
	p.replaceUnhealthy(missing, resting)
	p.checkStuck(missing, resting)
}

// start plans the start of up to missing tasks of a deployment. resting says that
// back-off forbids any now.
func (p *pass) start(d *Deployment, missing, room int) (resting bool) {
	if missing <= 0 {
		return false
	}
	if left, over := elapsed(p.now, d.FailedAt, Backoff(d.ID, d.Level)); !over && d.Level > 0 {
		p.wake(left)
		p.out.Waiting = restingText(d.Failed, left)
		return true
	}
	if room > 0 {
		p.out.Target, p.out.Start, p.out.Attempt = d.ID, min(missing, room), d.Level
	}
	return false
}

// replaceOld gives up old tasks: as many as new ones have taken over from, and, when no
// new one can come otherwise, as many as stand in the way of the missing ones.
func (p *pass) replaceOld(missing, room int, resting bool) {
	took := p.count(mine, is(healthy))
	n := p.count(old, active, staying) - max(0, p.svc.Desired-took)
	if n <= 0 && p.noWayForward(missing, resting) && p.count(mine, is(unhealthy)) == 0 {
		n = missing - room
	}
	for _, it := range p.items {
		if n <= 0 {
			return
		}
		if it.old && it.active() && !it.victim() && p.giveUp(it, p.scaling()) {
			n--
		}
	}
}

// dismissSurplus gives up tasks of the primary that are too many.
func (p *pass) dismissSurplus() {
	n := p.count(mine, active, not(unhealthy)) - p.svc.Desired
	for _, it := range p.items {
		if n <= 0 {
			return
		}
		if !it.old && it.active() && it.kind != unhealthy && p.giveUp(it, p.scaling()) {
			n--
		}
	}
}

// unblock gives up, for each new task that was not given what it needs on the host, a task
// that holds it: an old one or an unhealthy one. Holders that are leaving already count.
func (p *pass) unblock() {
	used := map[*item]bool{}
	for _, it := range p.items {
		if it.old || it.kind != pending || it.Blocked == "" || it.victim() {
			continue
		}
		p.freeFor(it, used)
	}
}

func (p *pass) freeFor(blocked *item, used map[*item]bool) {
	holds := func(it *item) bool { return slices.Contains(blocked.Holders, it.ID) && !used[it] }
	for _, it := range p.items {
		if holds(it) && (it.kind == leaving || it.victim()) {
			used[it] = true
			return
		}
	}
	for _, it := range p.items {
		if !holds(it) || !it.old && it.kind != unhealthy {
			continue
		}
		if p.giveUp(it, p.reasonFor(it)) {
			used[it] = true
			return
		}
		p.stuck = blocked.Blocked
	}
}

// replaceUnhealthy gives up unhealthy tasks of the primary: those that a healthy one has
// taken over from, and, where there is no room to start the replacement first, one by one.
func (p *pass) replaceUnhealthy(missing int, resting bool) {
	n := p.count(mine, is(healthy), staying) + p.count(mine, is(unhealthy), staying) - p.svc.Desired
	if p.noWayForward(missing, resting) {
		n = max(n, 1)
	}
	for _, it := range p.items {
		if n > 0 && !it.old && it.kind == unhealthy && !it.victim() {
			it.reason = p.reasonFor(it)
			n--
		}
	}
}

// noWayForward reports whether new tasks are missing and none can be started, none is on
// its way, and no room is about to be freed.
func (p *pass) noWayForward(missing int, resting bool) bool {
	return missing > 0 && !resting && p.out.Start == 0 &&
		p.count(mine, underWay) == 0 && p.count(is(leaving)) == 0 && p.count(active, victim) == 0
}

// giveUp makes the task a victim if that leaves enough healthy ones. A task that is not
// healthy is no loss; one that may soon be is kept while there are too few.
func (p *pass) giveUp(it *item, reason string) bool {
	switch it.kind {
	case healthy:
		if p.budget <= 0 {
			return false
		}
		p.budget--
	case settling:
		if p.budget < 0 {
			return false
		}
	case unseen:
		return false
	}
	it.reason = reason
	return true
}

// checkStuck finds out whether the service can only stand still.
func (p *pass) checkStuck(missing int, resting bool) {
	moving := resting || p.out.Start > 0 || p.count(underWay) > 0 || p.count(is(leaving)) > 0 ||
		p.count(active, victim) > 0
	switch {
	case moving:
		p.stuck = ""
	case p.stuck != "": // unblock has found why
		p.stuck = stuckText(p.svc, "the new task waits for what an old one holds ("+p.stuck+")")
	case missing > 0:
		p.stuck = stuckText(p.svc, "no new task may be started and no old one stopped")
	}
}

// hold keeps what runs although the primary has FAILED and there is nothing to go back to:
// no task of the primary is started any more, older deployments keep what they had.
func (p *pass) hold() {
	room := p.svc.Upper() - p.count(not(gone))
	for i := range p.st.Deployments[1:] {
		d := &p.st.Deployments[i+1]
		missing := d.Hold - p.count(active, not(unhealthy), func(it *item) bool { return it.Deployment == d.ID })
		missing = min(missing, p.svc.Desired-p.count(active, not(unhealthy)))
		if p.out.Start == 0 {
			p.start(d, missing, room)
		}
	}
	n := p.count(active) - p.svc.Desired
	for _, primaryFirst := range []bool{true, false} {
		for _, it := range p.items {
			if n > 0 && it.old != primaryFirst && it.active() && !it.victim() && p.giveUp(it, p.reasonFor(it)) {
				n--
			}
		}
	}
	if p.out.Waiting == "" {
		p.out.Waiting = failedText(p.svc)
	}
}

// scaling is ECS's reason for a task that its service no longer wants.
func (p *pass) scaling() string {
	return "Scaling activity initiated by (deployment " + p.st.Primary().ID + ")"
}

func (p *pass) reasonFor(it *item) string {
	if it.kind == unhealthy {
		return "Task failed container health checks"
	}
	return p.scaling()
}

// steady reports whether the service is as it should be and nothing moves.
func (p *pass) steady() bool {
	d := p.st.Primary()
	return !p.svc.Removed && d.State == spec.RolloutCompleted &&
		p.count(not(gone)) == p.svc.Desired &&
		p.count(mine, is(healthy), staying) == p.svc.Desired
}
