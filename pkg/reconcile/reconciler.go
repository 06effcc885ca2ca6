package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// Config is what a Reconciler needs. Runtime must be set; all else has a default.
type Config struct {
	Runtime runtime.Runtime
	Sources map[string]Source // by name; a task's Source says which one wants it
	Records *Records          // nil: nothing is remembered over a restart
	Now     func() spec.Time  // nil: runtime.Now
	Host    Capacity          // what tasks may share; zero: without bound

	// Auth says who to be at an image's registry. nil: nobody.
	Auth func(image string) runtime.Auth
	// Env gives what a container's environment gets beside its definition: resolved
	// secrets. It must be quick. nil: nothing.
	Env func(task, container string) map[string]string
	// Health gives the verdict on a container with a health check. Call Enqueue when one
	// changes. nil: UNKNOWN.
	Health func(task, container string) Health

	// OnView gets each new view of a task; it must not block. nil: nobody looks.
	OnView func(View)
	// Event gets what happens, for `ecsd events`; it must not block. Seq is left to the
	// receiver. nil: nobody listens.
	Event func(spec.Event)
	// Forget is called when the records of an ended task are about to go, to remove what
	// else is kept of it: its logs. It is called again until it returns nil. nil: nothing.
	Forget func(task string) error

	StopTimeout time.Duration // of containers that name none; 0: 30 s
	Cleanup     time.Duration // how long records and logs of ended tasks stay; 0: 3 h
	Resync      time.Duration // between looks at the whole machine; 0: 30 s
	PullTimeout time.Duration // of one image; 0: 2 h
	CallTimeout time.Duration // of one call of a runtime that forgets its own; 0: 5 min
	Workers     int           // tasks worked on at a time; 0: 16

	Registerer prometheus.Registerer // nil: metrics are not exported
	Logger     *slog.Logger          // nil: silent
}

func (c *Config) setDefaults() {
	orDuration := func(d *time.Duration, or time.Duration) {
		if *d <= 0 {
			*d = or
		}
	}
	orDuration(&c.StopTimeout, defaultStopTimeout)
	orDuration(&c.Cleanup, 3*time.Hour)
	orDuration(&c.Resync, 30*time.Second)
	orDuration(&c.PullTimeout, 2*time.Hour)
	orDuration(&c.CallTimeout, 5*time.Minute)
	if c.Workers <= 0 {
		c.Workers = 16
	}
	if c.Now == nil {
		c.Now = runtime.Now
	}
	if c.Auth == nil {
		c.Auth = func(string) runtime.Auth { return runtime.Auth{} }
	}
	if c.Env == nil {
		c.Env = func(string, string) map[string]string { return nil }
	}
	if c.Health == nil {
		c.Health = func(string, string) Health { return Health{} }
	}
	if c.OnView == nil {
		c.OnView = func(View) {}
	}
	if c.Event == nil {
		c.Event = func(spec.Event) {}
	}
	if c.Forget == nil {
		c.Forget = func(string) error { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Reconciler converges the tasks of one node. Make one with New, start it with Run, once.
// Its other methods may be called from any goroutine at any time; they read snapshots and
// never wait for the runtime.
type Reconciler struct {
	cfg     Config
	metrics *metrics
	backoff *backoff
	outbox  *outbox
	pulls   *pulls
	wake    chan struct{} // asks for a resync

	mu       sync.Mutex // guards what follows; held for moments, never over a call out
	queue    workqueue.TypedDelayingInterface[string]
	tasks    map[string]*entry
	heard    map[string]bool         // sources that have called set
	acts     uint64                  // counts actions, to tell an observation from before one
	listed   bool                    // the machine has been looked at as a whole
	starting map[string]bool         // tasks of the first look that had no pass yet
	answered bool                    // the runtime answered when last asked
	turned   runtime.Time            // when a look at the whole machine last ended, see Alive
	strange  map[string]runtime.Task // seen on the machine, and not in hand
	lookedAt runtime.Time            // when strange was seen
	whole    bool                    // the machine has been seen whole, without an error
	searched bool                    // records were searched for tasks that nobody wants
}

// entry is one task in hand. Reconciler.mu guards it; what it points to is never changed.
type entry struct {
	want   spec.Task
	source string // "": a stranger
	wanted bool   // its source wants it in its latest set
	claim  Claim

	seen   runtime.Task // as last observed
	seenAt runtime.Time
	fresh  bool   // seen is newer than anything done or heard since
	hinted bool   // an event came since the pass began
	acted  uint64 // acts when something was last done to it

	admitted bool
	blocked  string
	pulls    map[string]Pull
	failed   map[string]*runtime.TaskError

	ended     bool
	forgotten bool            // its records are gone
	final     spec.TaskStatus // once ended
	view      View
	viewed    bool
	failures  int
	retry     map[actionKey]time.Time // actions that may not be tried again before
	lastErr   string
	told      spec.TaskStatus // what its source was told last
	toldAny   bool
}

// actionKey names an action of a task, for back-off.
type actionKey struct {
	task      string
	verb      Verb
	container string
}

// What else can fail and be tried again, beside the verbs of a plan.
const (
	observe  Verb = "List" // a look at a task
	writeEnd Verb = "End"  // writing down how it ended
)

// New makes a Reconciler. It registers metrics and does nothing else.
func New(cfg Config) *Reconciler {
	cfg.setDefaults()
	r := &Reconciler{
		cfg:     cfg,
		backoff: newBackoff(),
		wake:    make(chan struct{}, 1),
		tasks:   map[string]*entry{},
		heard:   map[string]bool{},
	}
	r.metrics = newMetrics(cfg.Registerer, r.Views, cfg.Workers)
	r.outbox = newOutbox(cfg.Sources)
	r.pulls = newPulls(cfg, r.pulled)
	return r
}

// Run reconciles until ctx ends. Tasks are left running. It first subscribes to events and
// looks at the whole machine; until the runtime has answered, nothing is done.
func (r *Reconciler) Run(ctx context.Context) error {
	queue := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[string]{
		Name: "task", MetricsProvider: r.metrics,
	})
	var loops sync.WaitGroup
	defer loops.Wait()
	defer queue.ShutDown()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.pulls.open(ctx, &loops)

	events := r.cfg.Runtime.Events(ctx)
	loops.Go(func() { r.outbox.run(ctx) })
	for name, source := range r.cfg.Sources {
		loops.Go(func() { r.follow(ctx, name, source) })
	}
	if !r.firstLook(ctx) {
		return nil
	}
	r.mu.Lock()
	r.queue = queue
	for _, id := range r.inOrder() {
		queue.Add(id)
	}
	r.mu.Unlock()
	r.garbage()

	loops.Go(func() { r.hear(ctx, events) })
	loops.Go(func() { r.resync(ctx) })
	for range r.cfg.Workers {
		loops.Go(func() { r.work(ctx, queue) })
	}
	<-ctx.Done()
	return nil
}

// follow runs one source, again when it fails.
func (r *Reconciler) follow(ctx context.Context, name string, source Source) {
	for try := 0; ctx.Err() == nil; try++ {
		err := source.Run(ctx, func(tasks []spec.Task) { r.set(name, tasks) })
		if ctx.Err() != nil {
			return
		}
		r.cfg.Logger.Error("a source of tasks ended; its tasks stay as they are and it is run again",
			"source", name, "error", err)
		pause(ctx, delay(try+1))
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// set takes over the complete set of tasks that a source wants.
func (r *Reconciler) set(source string, tasks []spec.Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := make(map[string]bool, len(tasks))
	for _, t := range tasks {
		in[t.ID] = true
		e := r.tasks[t.ID]
		if e == nil {
			e = r.take(t)
		}
		if e.source != source || !e.wanted {
			e.source, e.wanted = source, true
			r.add(t.ID)
		}
		if t.DesiredStatus == spec.StatusStopped && e.want.DesiredStatus != spec.StatusStopped {
			r.stop(e, t.StopCode, t.StoppedReason)
			r.add(t.ID)
		}
	}
	for id, e := range r.tasks {
		if e.source != source || !e.wanted || in[id] {
			continue
		}
		e.wanted = false
		code := spec.StopUserInitiated
		if e.want.Service != "" {
			code = spec.StopServiceSchedulerInitiated
		}
		r.stop(e, code, "Task is no longer wanted by "+source)
		r.add(id)
	}
	if !r.heard[source] {
		r.heard[source] = true
		r.cfg.Logger.Info("heard from a source of tasks", "source", source, "tasks", len(tasks))
		if r.heardAll() {
			r.poke()
		}
	}
}

// take makes the entry of a task that was not in hand. r.mu is held.
func (r *Reconciler) take(t spec.Task) *entry {
	e := &entry{
		want: t, claim: ClaimOf(t), seen: runtime.Task{ID: t.ID},
		pulls: map[string]Pull{}, failed: map[string]*runtime.TaskError{}, retry: map[actionKey]time.Time{},
	}
	switch seen, there := r.strange[t.ID]; {
	case there: // an agent that starts finds what an earlier one began
		e.seen, e.seenAt, e.fresh = seen, r.lookedAt, true
		delete(r.strange, t.ID)
		r.hold(e)
	case r.whole: // a task that is new since the whole machine was seen is not on it
		e.seenAt, e.fresh = r.cfg.Now(), true
	}
	if r.cfg.Records != nil {
		e.final, e.ended = r.cfg.Records.Ended(t.ID)
	}
	if e.ended {
		e.fresh = false
		r.stop(e, e.final.StopCode, e.final.StoppedReason)
	}
	r.tasks[t.ID] = e
	return e
}

// heardAll reports whether every source has called set. r.mu is held.
func (r *Reconciler) heardAll() bool { return len(r.heard) == len(r.cfg.Sources) }

// add queues a task. r.mu is held.
func (r *Reconciler) add(id string) {
	if r.queue != nil {
		r.queue.Add(id)
	}
}

// Enqueue asks for a look at a task now, as when its health changed. An unknown id is
// ignored.
func (r *Reconciler) Enqueue(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.tasks[id]; e != nil {
		r.add(id)
	}
}

// Resync asks for a look at the whole machine now. It does not wait for it.
func (r *Reconciler) Resync() { r.poke() }

func (r *Reconciler) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // asked already
	}
}

// Views are all tasks in hand, those that ended too while their records stay, in the
// order of their creation.
func (r *Reconciler) Views() []View {
	r.mu.Lock()
	out := make([]View, 0, len(r.tasks))
	for _, e := range r.tasks {
		if e.viewed {
			out = append(out, e.view)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(out, func(a, b View) int {
		if c := a.Want.CreatedAt.Compare(b.Want.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.Want.ID, b.Want.ID)
	})
	return out
}

// View is one task in hand.
func (r *Reconciler) View(id string) (View, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.tasks[id]
	if e == nil || !e.viewed {
		return View{}, false
	}
	return e.view, true
}

// Ready reports whether every task found at the start has been looked at and the runtime
// answered when it was last asked.
func (r *Reconciler) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.listed && len(r.starting) == 0 && r.answered
}

// inOrder lists all tasks, oldest first. r.mu is held.
func (r *Reconciler) inOrder() []string {
	ids := slices.Collect(maps.Keys(r.tasks))
	slices.SortFunc(ids, func(a, b string) int {
		if c := r.tasks[a].want.CreatedAt.Compare(r.tasks[b].want.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	return ids
}

// event tells of something that happened to a task.
func (r *Reconciler) event(kind, id, reason, message string) {
	r.cfg.Event(spec.Event{Time: time.Now(), Type: kind, Object: "task/" + id, Reason: reason, Message: message})
}

// errHung is the cause of a call's end when the runtime did not end it itself.
var errHung = errors.New("the container runtime did not answer in time")

// call bounds one call of the runtime.
func (r *Reconciler) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, r.cfg.CallTimeout, errHung)
}
