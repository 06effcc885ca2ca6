package localapi

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"ecsd/pkg/spec"
)

const (
	ringSize     = 1000
	repeatWithin = 10 * time.Minute
)

// Events is a bounded ring of what happened, for `ecsd events` and for describe. It keeps
// the last 1000 events. One that says the same of the same object as an event of the last
// ten minutes is not added but moves that one to the end and counts: a crash loop takes
// one place, not all.
//
// Events is safe for several goroutines.
type Events struct {
	now func() time.Time

	mu      sync.Mutex
	ring    []spec.Event  // ordered by Seq
	last    uint64        // Seq of the newest event ever
	changed chan struct{} // closed and replaced by Add
}

// NewEvents makes an empty ring. now gives the wall time of an event that has none; nil
// is time.Now.
func NewEvents(now func() time.Time) *Events {
	if now == nil {
		now = time.Now
	}
	return &Events{now: now, changed: make(chan struct{})}
}

// Add puts an event at the end. Seq is given by the ring; Time too when it is zero. It
// never blocks.
func (e *Events) Add(ev spec.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ev.Time.IsZero() {
		ev.Time = e.now()
	}
	ev.Count = 0
	if i := slices.IndexFunc(e.ring, func(old spec.Event) bool { return repeats(ev, old) }); i >= 0 {
		ev.Count = max(e.ring[i].Count, 1) + 1
		e.ring = slices.Delete(e.ring, i, i+1)
	} else if len(e.ring) == ringSize {
		e.ring = slices.Delete(e.ring, 0, 1)
	}
	e.last++
	ev.Seq = e.last
	e.ring = append(e.ring, ev)
	close(e.changed)
	e.changed = make(chan struct{})
}

func repeats(ev, old spec.Event) bool {
	return ev.Object == old.Object && ev.Reason == old.Reason && ev.Message == old.Message &&
		ev.Type == old.Type && ev.Time.Sub(old.Time) <= repeatWithin
}

// Since is a copy of the events with a Seq above seq, oldest first. A seq that this ring
// has not given out yet is of an agent before this one: then it is all events.
func (e *Events) Since(seq uint64) []spec.Event {
	events, _ := e.since(seq)
	return events
}

func (e *Events) since(seq uint64) ([]spec.Event, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seq > e.last {
		seq = 0
	}
	i, _ := slices.BinarySearchFunc(e.ring, seq+1, func(ev spec.Event, seq uint64) int {
		switch {
		case ev.Seq < seq:
			return -1
		case ev.Seq > seq:
			return 1
		}
		return 0
	})
	return slices.Clone(e.ring[i:]), e.changed
}

// Watch yields the events with a Seq above seq and then each further one as it happens,
// until ctx ends or the caller stops. It starts no goroutine and nothing waits for a slow
// caller: who is slower than the ring turns misses the oldest.
func (e *Events) Watch(ctx context.Context, seq uint64) iter.Seq[spec.Event] {
	return func(yield func(spec.Event) bool) {
		for ctx.Err() == nil {
			events, changed := e.since(seq)
			for _, ev := range events {
				if !yield(ev) {
					return
				}
				seq = ev.Seq
			}
			if len(events) > 0 {
				continue
			}
			select {
			case <-ctx.Done():
			case <-changed:
			}
		}
	}
}
