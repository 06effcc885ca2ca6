package deploy

import (
	"slices"

	"ecsd/pkg/spec"
)

// countFailures notes in the deployments each task that has ended although nobody asked it
// to, or that has become UNHEALTHY, once. It makes no difference how it ended: a service's
// task is not to end at all.
func (p *pass) countFailures() {
	for _, it := range p.items {
		ended := (it.Phase == Stopping || it.Phase == Stopped) && !it.Asked
		if !ended && it.kind != unhealthy {
			continue
		}
		p.out.Counted = append(p.out.Counted, it.ID)
		if it.Task.Counted {
			continue
		}
		if it.kind == unhealthy {
			p.warn(ReasonTaskUnhealthy, "(task %s) failed container health checks.", it.ID)
		}
		if d := p.st.Find(it.Deployment); d != nil && !p.rebooted(it) {
			p.fail(d, it)
		}
	}
	slices.Sort(p.out.Counted)
}

// rebooted reports whether the machine has been restarted under the task, which is no
// fault of the task's.
func (p *pass) rebooted(it *item) bool {
	from := it.Since
	if from.IsZero() {
		from = it.Created
	}
	_, same := p.now.Since(from)
	return !same
}

// fail counts one failure. The level of back-off is that of the failed task's own
// generation plus one, so that many tasks failing at once count as one generation, and a
// task that has run long begins a new row.
func (p *pass) fail(d *Deployment, it *item) {
	long := false
	if !it.Since.IsZero() {
		_, long = elapsed(p.now, it.Since, ResetAfter)
	}
	served := !it.Checked || it.Health == spec.HealthHealthy
	before := d.Level
	if long {
		d.Level = 1
	} else {
		d.Level = max(d.Level, it.Attempt+1)
	}
	if long && served {
		d.Failed = 1
	} else {
		d.Failed++
	}
	d.FailedAt, d.Updated = p.now, p.now
	if before < 3 && d.Level >= 3 {
		p.warn(ReasonTasksFailing, "is unable to consistently start tasks successfully.")
	}
}

// breakCircuit ends the primary deployment when too many of its tasks have failed in a
// row, and goes back to the newest one that ever completed, if the service wants that. A
// deployment that was gone back to is not watched: there is nothing better to go to, so it
// is tried for ever.
func (p *pass) breakCircuit() {
	d := p.st.Primary()
	if !p.svc.Breaker || p.svc.Desired <= 0 || d.State != spec.RolloutInProgress || d.Rollback ||
		d.Failed < Threshold(p.svc.Desired) {
		return
	}
	failed := d.ID
	d.State, d.Updated = spec.RolloutFailed, p.now
	d.Reason = "ECS deployment circuit breaker: tasks failed to start."
	p.warn(ReasonDeploymentFailed, "(deployment %s) deployment failed: tasks failed to start.", failed)

	if !p.svc.Rollback {
		p.holdOthers()
		return
	}
	i := slices.IndexFunc(p.st.Deployments, func(d Deployment) bool { return d.Completed && d.ID != failed })
	if i < 0 {
		p.holdOthers()
		p.warn(ReasonDeploymentFailed, "has no completed deployment to roll back to.")
		return
	}
	to := p.st.Deployments[i]
	p.st = p.st.Deploy(to.ID, to.Revision, p.now)
	d = p.st.Primary()
	d.Rollback = true
	d.Reason = "ECS deployment circuit breaker: rolling back to deploymentId " + d.ID + "."
	p.warn(ReasonRollingBack, "rolling back to deployment %s.", d.ID)
	p.markOld()
}

// holdOthers notes how many tasks each older deployment has: that many it keeps.
func (p *pass) holdOthers() {
	for i := range p.st.Deployments[1:] {
		d := &p.st.Deployments[i+1]
		d.Hold = p.count(active, func(it *item) bool { return it.Deployment == d.ID })
	}
}

// forgive sets the counts of a deployment back to zero once a task that was started after
// its latest failures has been well for ResetAfter.
func (p *pass) forgive() {
	for i := range p.st.Deployments {
		d := &p.st.Deployments[i]
		if d.State == spec.RolloutFailed || d.Level == 0 && d.Failed == 0 {
			continue
		}
		for _, it := range p.items {
			if it.Deployment != d.ID || it.kind != healthy || it.Attempt < d.Level {
				continue
			}
			if left, over := elapsed(p.now, it.Since, ResetAfter); over {
				d.Level, d.Failed = 0, 0
				break
			} else {
				p.wake(left)
			}
		}
	}
}

// complete makes the primary COMPLETED once all its tasks are healthy and all older ones
// are gone.
func (p *pass) complete() {
	d := p.st.Primary()
	if p.svc.Removed || d.State != spec.RolloutInProgress {
		return
	}
	if p.count(old, not(gone)) > 0 ||
		p.count(mine, active) != p.svc.Desired || p.count(mine, is(healthy)) != p.svc.Desired {
		return
	}
	if p.svc.Breaker {
		for _, it := range p.items {
			if it.kind != healthy || it.Checked {
				continue
			}
			if left, over := elapsed(p.now, it.Since, p.svc.Bake); !over {
				p.wake(left)
				p.out.Waiting = "its tasks have no health check: the circuit breaker watches them for " + p.svc.Bake.String()
				return
			}
		}
	}
	d.State, d.Completed, d.Updated = spec.RolloutCompleted, true, p.now
	d.Reason = "ECS deployment " + d.ID + " completed."
	p.tell(ReasonDeploymentCompleted, "(deployment %s) deployment completed.", d.ID)
}

// drop forgets older deployments that have no tasks left, but for what a rollback might go
// back to.
func (p *pass) drop() {
	keepCompleted := !p.st.Primary().Completed
	primary := true
	p.st.Deployments = slices.DeleteFunc(p.st.Deployments, func(d Deployment) bool {
		if primary {
			primary = false
			return false
		}
		if d.Completed && keepCompleted {
			keepCompleted = false
			return false
		}
		return d.Hold == 0 && p.count(not(gone), func(it *item) bool { return it.Deployment == d.ID }) == 0
	})
}
