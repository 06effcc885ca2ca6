package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"ecsd/pkg/deploy"
	"ecsd/pkg/reconcile"
	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// Source is the default name of this source in spec.Task.Source.
const Source = "manifest"

// ErrStopped is what operations fail with once Run has ended.
var ErrStopped = errors.New("the agent is shutting down")

// Records keeps tasks on disk; *reconcile.Records is it.
type Records interface {
	// SaveTask writes a task's task.json. Called again it replaces it.
	SaveTask(spec.Task) error
	// LoadTasks reads all of them. An error comes beside what could be read.
	LoadTasks() ([]spec.Task, error)
	// Ended returns the last status of a task that has ended.
	Ended(id string) (spec.TaskStatus, bool)
}

// Config is what Services needs.
type Config struct {
	Dir      string           // data directory: services/ in it is ours
	Records  Records          //
	Balancer runtime.Balancer // publishes steady ports; nil: services have none
	Now      func() spec.Time // nil: runtime.Now
	Cluster  string           // of the tasks; "": default
	Source   string           // of the tasks; "": Source
	Options  deploy.Options   // how long to wait for what

	Event      func(spec.Event) // told what happens to services; nil: nobody. It must not block
	Registerer prometheus.Registerer
	Log        *slog.Logger // nil: slog.Default
}

// Services keeps the services of one node. Its methods may be called from any goroutine,
// before Run too; what acts (StopTask, Restart, RunTask) waits for Run.
type Services struct {
	c       Config
	metrics *metrics

	wake chan struct{} // something is new
	acts chan act
	done chan struct{} // Run has ended

	mu      sync.Mutex                    // guards the four below, never held across a call out
	desired []Desired                     // latest set, nil once taken
	given   bool                          // desired is to be taken
	reports map[string]spec.TaskStatus    // latest ones not taken yet, by task
	shown   map[string]spec.ServiceStatus // by service

	loop loop // owned by Run
}

// act is something to do in Run's goroutine.
type act struct {
	do   func() error
	done chan error
}

var _ reconcile.Source = (*Services)(nil)

// New reads what is on disk. It fails when a file there was written by a newer ecsd,
// naming it; one that cannot be read is logged and made again from the tasks.
func New(c Config) (*Services, error) {
	if c.Now == nil {
		c.Now = runtime.Now
	}
	if c.Source == "" {
		c.Source = Source
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Services{
		c:       c,
		wake:    make(chan struct{}, 1),
		acts:    make(chan act),
		done:    make(chan struct{}),
		reports: map[string]spec.TaskStatus{},
		shown:   map[string]spec.ServiceStatus{},
	}
	s.metrics = newMetrics(c.Registerer)
	s.loop = loop{c: &s.c, metrics: s.metrics, show: s.publish, services: map[string]*service{}, single: map[string]*task{}}
	if err := s.loop.load(); err != nil {
		return nil, err
	}
	for _, svc := range s.loop.services {
		s.publish(svc.name, s.loop.describe(svc))
	}
	return s, nil
}

// Set gives the complete set of services that are wanted. Those it leaves out are wound
// down. Until it is called for the first time everything stays as it was before the
// restart; calling it again with the same set does nothing.
func (s *Services) Set(desired []Desired) {
	s.mu.Lock()
	s.desired, s.given = slices.Clone(desired), true
	s.mu.Unlock()
	s.poke()
}

// Report takes a task's latest status from the reconciler. It does not block; of several
// that come before the loop looks, the last counts. Tasks of others are passed over.
func (s *Services) Report(status spec.TaskStatus) {
	s.mu.Lock()
	s.reports[status.TaskID] = status
	s.mu.Unlock()
	s.poke()
}

func (s *Services) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take hands the loop what is new.
func (s *Services) take() (desired []Desired, given bool, reports map[string]spec.TaskStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	desired, given, reports = s.desired, s.given, s.reports
	s.desired, s.given, s.reports = nil, false, map[string]spec.TaskStatus{}
	return desired, given, reports
}

// List returns the status of every service, by name.
func (s *Services) List() []spec.ServiceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]spec.ServiceStatus, 0, len(s.shown))
	for _, st := range s.shown {
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b spec.ServiceStatus) int { return strings.Compare(a.ServiceName, b.ServiceName) })
	return out
}

// publish makes a service's status the one that List returns; nil takes it away.
func (s *Services) publish(name string, st *spec.ServiceStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st == nil {
		delete(s.shown, name)
		return
	}
	s.shown[name] = *st
}

// StopTask asks a task to stop, for a user. A task that has been asked already, or has
// ended, is no error; one that nobody knows is errdefs.ErrNotFound. A service replaces it.
func (s *Services) StopTask(id, reason string) error {
	return s.act(func() error { return s.loop.stopTask(id, reason) })
}

// Restart starts a new deployment of the definition that was last asked for, though it has
// not changed: images are resolved anew, every task is replaced, and a deployment that had
// failed is tried again. An unknown service is errdefs.ErrNotFound.
func (s *Services) Restart(service string) error {
	return s.act(func() error { return s.loop.restart(service) })
}

// RunTask runs a task once, outside of any service, and returns its id. The definition is
// to be defaulted and valid. Once it has ended it never runs again.
func (s *Services) RunTask(def spec.TaskDefinition) (id string, err error) {
	err = s.act(func() error {
		id, err = s.loop.runTask(def)
		return err
	})
	return id, err
}

func (s *Services) act(do func() error) error {
	a := act{do, make(chan error, 1)}
	select {
	case s.acts <- a:
		return <-a.done
	case <-s.done:
		return ErrStopped
	}
}

// Run keeps the services until ctx ends, which is no error, and leaves their tasks as they
// are. It calls set whenever the tasks wanted have changed: first with those of before the
// restart, or, when there were none, once Set has been called. It is to be called once.
func (s *Services) Run(ctx context.Context, set func([]spec.Task)) error {
	defer close(s.done)
	return s.loop.run(ctx, s, set)
}

// Desired is one service that is wanted, as the manifests say.
type Desired struct {
	Name       string // of the service
	Service    spec.Service
	Definition spec.TaskDefinition // defaulted and valid
	File       string              // where it comes from
}

// ForDefinition is the service that a task definition runs as when no service names it:
// one task, of the family's name, whose old task may go before the new one is healthy
// when both do not fit (0/200).
func ForDefinition(td spec.TaskDefinition) spec.Service {
	one, zero, twice := 1, 0, 200
	return spec.Service{
		ServiceName:    td.Family,
		TaskDefinition: td.Family,
		DesiredCount:   &one,
		DeploymentConfiguration: &spec.DeploymentConfiguration{
			MinimumHealthyPercent: &zero,
			MaximumPercent:        &twice,
		},
		SchedulingStrategy: spec.StrategyReplica,
	}
}

func notFound(what, name string) error {
	return fmt.Errorf("%s %q: %w", what, name, errNotFound)
}
