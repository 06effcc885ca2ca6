package deploy

import (
	"slices"
	"strings"
)

// leave settles who serves, and takes the tasks that are to go out of the steady ports
// before they are stopped. The pause in between is for requests that are under way; where
// nobody else serves it would only make the gap longer.
func (p *pass) leave() {
	p.out.Serve = p.serve()
	pause := p.svc.Drain
	if len(p.out.Serve) == 0 {
		pause = 0
	}
	for _, it := range p.items {
		switch {
		case !it.active():
		case !it.victim():
			if it.draining() {
				p.out.Revive = append(p.out.Revive, it.ID)
			}
		case pause == 0 || !served(it):
			p.stop(it)
		case !it.draining():
			p.out.Drain = append(p.out.Drain, it.ID)
			p.wake(pause)
		default:
			if left, over := elapsed(p.now, it.Task.Draining, pause); !over {
				p.wake(left)
				continue
			}
			p.stop(it)
		}
	}
	slices.Sort(p.out.Drain)
	slices.Sort(p.out.Revive)
	slices.SortFunc(p.out.Stop, func(a, b Stop) int { return strings.Compare(a.ID, b.ID) })
}

func (p *pass) stop(it *item) {
	p.out.Stop = append(p.out.Stop, Stop{ID: it.ID, Reason: it.reason})
}

// served reports whether the task may have been behind the steady ports until now. An
// unhealthy one left them when it became so.
func served(it *item) bool {
	return it.kind == healthy || it.kind == settling && !it.Checked
}

// serve chooses the tasks behind the steady ports: the healthy ones that stay. When there
// is none, tasks without health check serve as soon as they are RUNNING: all that the wait
// for stability could do then is to make an outage longer.
func (p *pass) serve() []string {
	var well, settlingOnes []string
	for _, it := range p.items {
		switch {
		case it.victim():
		case it.kind == healthy:
			well = append(well, it.ID)
		case it.kind == settling && !it.Checked:
			settlingOnes = append(settlingOnes, it.ID)
		}
	}
	if len(well) == 0 {
		well = settlingOnes
	}
	slices.Sort(well)
	return well
}
