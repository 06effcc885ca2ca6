package containerd

import (
	"context"
	"sync"
)

// locks serialises what changes one task. Callers serialise by task too (it is part of the
// contract); this protects the exits that observers write down meanwhile.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock // by task id, only those held or waited for
}

type lock struct {
	ch    chan struct{} // holds one token while the lock is held
	users int
}

// lock waits for the task's lock, at most until ctx ends.
func (l *locks) lock(ctx context.Context, task string) (unlock func(), err error) {
	k := l.enter(task)
	select {
	case k.ch <- struct{}{}:
		return func() { <-k.ch; l.leave(task) }, nil
	case <-ctx.Done():
		l.leave(task)
		return nil, ctx.Err()
	}
}

// try takes the task's lock if nobody has it.
func (l *locks) try(task string) (unlock func(), ok bool) {
	k := l.enter(task)
	select {
	case k.ch <- struct{}{}:
		return func() { <-k.ch; l.leave(task) }, true
	default:
		l.leave(task)
		return nil, false
	}
}

func (l *locks) enter(task string) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.held[task]
	if k == nil {
		if l.held == nil {
			l.held = map[string]*lock{}
		}
		k = &lock{ch: make(chan struct{}, 1)}
		l.held[task] = k
	}
	k.users++
	return k
}

func (l *locks) leave(task string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.held[task]
	if k.users--; k.users == 0 {
		delete(l.held, task)
	}
}
