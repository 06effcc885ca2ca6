package reconcile

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// pullsPerRegistry bounds the pulls from one registry at a time. There is no bound over
// all registries, so that one that hangs is waited for by nobody else's tasks.
const pullsPerRegistry = 8

// pulls is the pool in which images are pulled, outside the workers: a stop never waits
// for a pull. One image is pulled once at a time, however many containers wait for it.
type pulls struct {
	timeout time.Duration
	rt      runtime.Runtime
	auth    func(image string) runtime.Auth
	deliver func(waiter, runtime.Image, error)

	mu    sync.Mutex // guards what follows
	ctx   context.Context
	loops *sync.WaitGroup
	jobs  map[string]*job // by reference
	slots map[string]chan struct{}
}

// job is one pull in flight.
type job struct {
	cancel  context.CancelFunc
	waiters map[waiter]bool
}

// waiter is a container that waits for a pull.
type waiter struct{ task, container string }

func newPulls(cfg Config, deliver func(waiter, runtime.Image, error)) *pulls {
	return &pulls{
		timeout: cfg.PullTimeout, rt: cfg.Runtime, auth: cfg.Auth, deliver: deliver,
		jobs: map[string]*job{}, slots: map[string]chan struct{}{},
	}
}

// open lets pulls begin: each runs in a goroutine of its own that loops counts and that
// ends with ctx.
func (p *pulls) open(ctx context.Context, loops *sync.WaitGroup) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx, p.loops = ctx, loops
}

// start pulls ref for a container, or lets it wait for the pull that is under way.
func (p *pulls) start(ref string, w waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if j := p.jobs[ref]; j != nil {
		j.waiters[w] = true
		return
	}
	if p.ctx == nil || p.ctx.Err() != nil {
		return // nobody plans any more
	}
	ctx, cancel := context.WithTimeoutCause(p.ctx, p.timeout, errors.New("the pull took longer than "+p.timeout.String()))
	j := &job{cancel: cancel, waiters: map[waiter]bool{w: true}}
	p.jobs[ref] = j
	slot := p.slot(ref)
	p.loops.Go(func() {
		defer cancel()
		image, err := p.pull(ctx, ref, slot)
		p.mu.Lock()
		if p.jobs[ref] == j {
			delete(p.jobs, ref)
		}
		waiters := j.waiters
		j.waiters = nil
		p.mu.Unlock()
		for w := range waiters {
			p.deliver(w, image, err)
		}
	})
}

func (p *pulls) pull(ctx context.Context, ref string, slot chan struct{}) (runtime.Image, error) {
	select {
	case slot <- struct{}{}:
		defer func() { <-slot }()
	case <-ctx.Done():
		return runtime.Image{}, context.Cause(ctx)
	}
	image, err := p.rt.Pull(ctx, ref, p.auth(ref))
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return image, err
}

// slot is the semaphore of a reference's registry. p.mu is held.
func (p *pulls) slot(ref string) chan struct{} {
	host := "oci-archive"
	if !strings.HasPrefix(ref, "oci-archive:") {
		host = "docker.io"
		if named, err := reference.ParseNormalizedNamed(ref); err == nil {
			host = reference.Domain(named)
		}
	}
	if p.slots[host] == nil {
		p.slots[host] = make(chan struct{}, pullsPerRegistry)
	}
	return p.slots[host]
}

// drop ends a task's waiting, and pulls that nobody waits for.
func (p *pulls) drop(task string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ref, j := range p.jobs {
		for w := range j.waiters {
			if w.task == task {
				delete(j.waiters, w)
			}
		}
		if len(j.waiters) == 0 {
			j.cancel()
			delete(p.jobs, ref)
		}
	}
}

// pinned is the reference to pull for a container: its image, at the digest that the
// task's deployment resolved first. References that carry a digest, and archives, are
// taken as they are.
func pinned(image, digest string) string {
	if digest == "" || strings.Contains(image, "@") || strings.HasPrefix(image, "oci-archive:") {
		return image
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.FamiliarString(reference.TrimNamed(named)) + "@" + digest
}

// startPull begins the pull of a container's image.
func (r *Reconciler) startPull(want spec.Task, def spec.ContainerDefinition) {
	r.mu.Lock()
	if e := r.tasks[want.ID]; e != nil {
		e.pulls[def.Name] = Pull{Started: r.cfg.Now()}
	}
	r.mu.Unlock()
	r.pulls.start(pinned(def.Image, want.Images[def.Name]), waiter{want.ID, def.Name})
}

// pulled takes the end of a pull.
func (r *Reconciler) pulled(w waiter, image runtime.Image, err error) {
	key := actionKey{w.task, PullImage, w.container}
	at := r.cfg.Now()
	r.mu.Lock()
	e := r.tasks[w.task]
	if e == nil || e.ended {
		r.mu.Unlock()
		return
	}
	pull := e.pulls[w.container]
	pull.Done = at
	te, final := runtime.Final(err)
	switch {
	case err == nil:
		pull.Image = image
		e.pulls[w.container] = pull
	case final:
		pull.Err = te
		e.pulls[w.container] = pull
	default:
		delete(e.pulls, w.container) // to be planned anew
	}
	r.mu.Unlock()
	switch {
	case err == nil:
		r.succeeded(key)
		r.backoff.Forget(key)
		r.event(spec.EventNormal, w.task, reasonPulled, "container "+w.container+": image "+image.Ref+" is here")
	case final:
		r.event(spec.EventWarning, w.task, reasonFailed, "container "+w.container+": "+te.Error())
	default:
		r.failed(key, err)
		r.event(spec.EventWarning, w.task, reasonRetry, "container "+w.container+": PullImage: "+err.Error())
	}
	r.Enqueue(w.task)
}
