package reconcile

import (
	"context"
	"sync"

	"ecsd/pkg/spec"
)

// outbox carries statuses to their sources, of each task only the latest, in the order in
// which tasks changed first. A slow source delays reports, never a task.
type outbox struct {
	sources map[string]Source
	wake    chan struct{}

	mu     sync.Mutex // guards what follows
	latest map[letterKey]spec.TaskStatus
	order  []letterKey
}

type letterKey struct{ source, task string }

func newOutbox(sources map[string]Source) *outbox {
	return &outbox{sources: sources, wake: make(chan struct{}, 1), latest: map[letterKey]spec.TaskStatus{}}
}

// put takes a status to be told; it replaces one that was not told yet.
func (o *outbox) put(source string, s spec.TaskStatus) {
	key := letterKey{source, s.TaskID}
	o.mu.Lock()
	if _, waiting := o.latest[key]; !waiting {
		o.order = append(o.order, key)
	}
	o.latest[key] = s
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run tells sources until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		}
		for source, status, ok := o.next(); ok; source, status, ok = o.next() {
			if source != nil {
				source.Report(status)
			}
		}
	}
}

// next takes the oldest letter out.
func (o *outbox) next() (Source, spec.TaskStatus, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) == 0 {
		return nil, spec.TaskStatus{}, false
	}
	key := o.order[0]
	o.order = o.order[1:]
	status := o.latest[key]
	delete(o.latest, key)
	return o.sources[key.source], status, true
}
