package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// Config is what a Prober needs. Exec is required.
type Config struct {
	// Exec runs the commands. If it is a runtime.Pinger too, a check that timed out is
	// held against the container only if the runtime answers.
	Exec runtime.Execer
	// Changed is called, from Run, when a container's status has changed. It must not
	// block. It may call Verdict.
	Changed func(task string)
	// Parallel bounds the checks that run at once; 0 means 16.
	Parallel   int
	Now        func() spec.Time // nil: runtime.Now
	Log        *slog.Logger     // nil: none
	Registerer prometheus.Registerer
}

const (
	// execID is the same for every check of a container, so that one left over by an agent
	// that was killed is killed by the next.
	execID = "ecsd-health"
	// outputLimit bounds what is kept of a check's output, in bytes (Docker's figure).
	outputLimit = 4096
	// grace is how long after its time-out a check may still take to be killed before it
	// no longer counts as one of the Parallel.
	grace = 5 * time.Second
	// pingTime is how long the runtime may take to answer before it is called hung.
	pingTime = 2 * time.Second
)

// Exit codes that stand for what is not an exit, as shells use them.
const (
	codeTimedOut = 124
	codeNotRun   = 126
)

// Prober checks the containers it is shown. Its methods may be called at any time, from
// any goroutine, also before Run; checks are made while Run runs.
type Prober struct {
	cfg     Config
	metrics *metrics
	wake    chan struct{}

	mu   sync.Mutex
	runs map[target]*run
}

// target is a container of a task.
type target struct{ task, container string }

// run is one run of a container that is being checked.
type run struct {
	target
	check    Check
	restarts int
	state    State
	due      spec.Time
	busy     bool // a check is under way
	began    spec.Time
	stop     context.CancelFunc // of the check under way
}

// New makes a prober that checks nothing yet.
func New(c Config) *Prober {
	if c.Now == nil {
		c.Now = runtime.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Parallel <= 0 {
		c.Parallel = 16
	}
	if c.Changed == nil {
		c.Changed = func(string) {}
	}
	return &Prober{cfg: c, metrics: newMetrics(c.Registerer), wake: make(chan struct{}, 1), runs: map[target]*run{}}
}

// Observe tells what is known of a task now. Containers that live and have a health check
// are checked from now on; the others no longer, and their verdicts are forgotten: so are
// those of a container that runs anew, or has been asked to stop. It does not block.
func (p *Prober) Observe(v reconcile.View) {
	task := v.Want.ID
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	for _, c := range v.Want.Definition.ContainerDefinitions {
		key := target{task, c.Name}
		have := v.Have.Task.Containers[c.Name]
		check, checked := CheckOf(c)
		old := p.runs[key]
		switch {
		case !checked || !have.Live() || !have.StopSignaled.IsZero():
			p.drop(old)
		case old == nil || old.restarts != have.Restarts || old.state.Started != have.Started:
			p.drop(old)
			r := &run{target: key, check: check, restarts: have.Restarts, state: Begin(have.Started)}
			r.due = firstDue(r.state, check, now)
			p.runs[key] = r
		}
	}
	p.poke()
}

// Forget drops all that is known of a task. Observing a task of which nothing lives does
// the same; this is for one that is seen no more.
func (p *Prober) Forget(task string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, r := range p.runs {
		if key.task == task {
			p.drop(r)
		}
	}
}

// Verdict is the health of a container: UNKNOWN when it is not being checked.
func (p *Prober) Verdict(task, container string) reconcile.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.runs[target{task, container}]
	if r == nil {
		return reconcile.Health{Status: spec.HealthUnknown}
	}
	return reconcile.Health{Status: r.state.Status, Since: r.state.Since, Output: r.state.Output, Code: r.state.Code}
}

// firstDue is when a run is first checked. One that is older than its first pause (the
// agent has been restarted) is checked soon, but not together with all others.
func firstDue(s State, c Check, now spec.Time) spec.Time {
	pause := min(c.Interval, firstPause)
	if age, ok := now.Since(s.Started); ok && age >= 0 && age < pause {
		return now.Add(pause - age)
	}
	return now.Add(rand.N(pause))
}

// drop ends the checking of a run; the caller holds the lock.
func (p *Prober) drop(r *run) {
	if r == nil {
		return
	}
	delete(p.runs, r.target)
	if r.stop != nil {
		r.stop()
	}
}

func (p *Prober) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run makes the checks until ctx ends; then it cancels those under way and returns when
// they have. It is called once.
func (p *Prober) Run(ctx context.Context) error {
	var checks sync.WaitGroup
	defer checks.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, next := p.take(ctx)
		for _, d := range due {
			checks.Go(func() { p.probe(d.ctx, d.run) })
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-p.wake:
		}
	}
}

type dueRun struct {
	run *run
	ctx context.Context
}

// take marks the runs whose check is due as busy and returns them, the longest overdue
// first and no more than may run at once, and the time until it is to be called again.
func (p *Prober) take(ctx context.Context) (due []dueRun, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	next = time.Hour
	free := p.cfg.Parallel
	var ready []*run
	for _, r := range p.runs {
		if r.busy {
			// A check that cannot even be killed holds up its own container's checks, not others'.
			if took, _ := now.Since(r.began); took < r.check.Timeout+grace {
				free--
				next = min(next, r.check.Timeout+grace-took)
			}
			continue
		}
		if wait, ok := r.due.Since(now); ok && wait > 0 {
			next = min(next, wait)
			continue
		}
		ready = append(ready, r)
	}
	slices.SortFunc(ready, func(a, b *run) int { return cmp.Compare(a.due.At, b.due.At) })
	for _, r := range ready[:min(len(ready), max(free, 0))] {
		c, cancel := context.WithCancel(ctx)
		r.busy, r.began, r.stop = true, now, cancel
		due = append(due, dueRun{r, c})
	}
	return due, next
}

// probe makes one check, and takes its result into the verdict if the run still is one.
func (p *Prober) probe(ctx context.Context, r *run) {
	began := p.cfg.Now()
	result := p.exec(ctx, r)
	now := p.cfg.Now()
	if took, ok := now.Since(began); ok && !result.Fault {
		p.metrics.duration.Observe(took.Seconds())
	}

	p.mu.Lock()
	over := ctx.Err() != nil // dropped, or Run is ending
	r.stop()
	r.stop, r.busy = nil, false
	if over || p.runs[r.target] != r {
		p.mu.Unlock()
		p.poke()
		return
	}
	was := r.state
	r.state = Next(was, result, r.check, now)
	pause := Delay(r.state, r.check, now)
	if result.Fault {
		pause = min(pause, 2*firstPause)
	}
	r.due = now.Add(jitter(pause))
	state := r.state
	p.mu.Unlock()
	p.poke()

	if state.Status != was.Status {
		level := slog.LevelInfo
		if state.Status == spec.HealthUnhealthy {
			level = slog.LevelWarn
		}
		p.cfg.Log.Log(ctx, level, "container health changed", "task", r.task, "container", r.container, "from", was.Status, "health", state.String())
		p.cfg.Changed(r.task)
	}
}

// jitter makes a pause up to a tenth shorter, so that checks of containers that started
// together drift apart.
func jitter(d time.Duration) time.Duration {
	if s := spread(d); s > 0 {
		return d - rand.N(s)
	}
	return d
}

// exec runs the command and says what that means.
func (p *Prober) exec(ctx context.Context, r *run) Result {
	limited, cancel := context.WithTimeout(ctx, r.check.Timeout)
	defer cancel()
	res, err := p.cfg.Exec.Exec(limited, r.task, r.container, execID, r.check.Args, outputLimit)
	if len(res.Output) > outputLimit {
		res.Output = res.Output[:outputLimit]
	}
	switch {
	case err == nil:
		return Result{Code: res.Code, Output: res.Output}
	case ctx.Err() != nil:
		return Result{Fault: true, Output: res.Output}
	case errors.Is(err, context.DeadlineExceeded):
		if !p.answers(ctx) {
			return Result{Fault: true, Code: codeTimedOut, Output: "the container runtime does not answer"}
		}
		return Result{Code: codeTimedOut, Output: fmt.Sprintf("%s\nhealth check exceeded its timeout (%s)", res.Output, r.check.Timeout)}
	}
	// What the definition is to blame for, such as a command that is not in the image.
	if te, ok := runtime.Final(err); ok {
		return Result{Code: codeNotRun, Output: te.Message}
	}
	if errdefs.IsInvalidArgument(err) {
		return Result{Code: codeNotRun, Output: err.Error()}
	}
	return Result{Fault: true, Output: "health check could not be run: " + err.Error()}
}

// answers tells whether the runtime is there at all.
func (p *Prober) answers(ctx context.Context) bool {
	pinger, ok := p.cfg.Exec.(runtime.Pinger)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	_, err := pinger.Ping(ctx)
	return err == nil
}
