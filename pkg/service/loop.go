package service

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"ecsd/pkg/deploy"
	"ecsd/pkg/spec"
)

// retryAfter is how long to wait before something that the machine refused (a write, a
// port) is tried again.
const retryAfter = time.Second

// loop is what Run's goroutine owns: nobody else touches it once Run has begun.
type loop struct {
	c       *Config
	metrics *metrics
	show    func(name string, st *spec.ServiceStatus)

	services map[string]*service
	single   map[string]*task // one-off tasks
	known    bool             // there is something to say: tasks of before, or a Set
	changed  bool             // the set of tasks differs from what was handed on last
}

// service is one service at work.
type service struct {
	name  string
	rec   record
	saved []byte           // the record as it was written last
	tasks map[string]*task // by id
	lost  bool             // its record was: its tasks are all that is known until Set names it
	dirty bool             // to be looked at now
	due   spec.Time        // to be looked at then; zero: no need
	ports ports
	waits string // Steps.Waiting of the latest Plan
}

// task is one task, a service's or a one-off.
type task struct {
	want     spec.Task
	status   spec.TaskStatus
	seen     bool      // status is of this run of the agent
	draining spec.Time // when it left the steady ports
	unsaved  bool      // want is newer than task.json
}

func newService(name string, r record) *service {
	r.Name = name
	if r.Definitions == nil {
		r.Definitions = map[string]definition{}
	}
	if r.Tasks == nil {
		r.Tasks = map[string]mark{}
	}
	return &service{name: name, rec: r, tasks: map[string]*task{}}
}

// over reports whether nothing of the task is left.
func (t *task) over() bool { return t.seen && t.status.LastStatus == spec.StatusStopped }

// asked reports whether the task has been asked to stop.
func (t *task) asked() bool { return t.want.DesiredStatus == spec.StatusStopped }

// ordered lists the service's tasks, the oldest first.
func (s *service) ordered() []*task { return ordered(s.tasks) }

func ordered(tasks map[string]*task) []*task {
	return slices.SortedFunc(maps.Values(tasks), func(a, b *task) int {
		return cmp.Or(a.want.CreatedAt.Compare(b.want.CreatedAt), strings.Compare(a.want.ID, b.want.ID))
	})
}

func (l *loop) run(ctx context.Context, in *Services, set func([]spec.Task)) error {
	for _, s := range l.services {
		l.publish(ctx, s, nil)
	}
	if l.known {
		set(l.all())
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		desired, given, reports := in.take()
		l.observe(reports)
		if given {
			l.want(desired)
		}
		l.pass(ctx)
		if l.changed && l.known {
			l.changed = false
			set(l.all())
		}
		timer.Reset(l.sleep())
		select {
		case <-ctx.Done():
			return nil
		case <-in.wake:
		case <-timer.C:
		case a := <-in.acts:
			// The answer comes before the next pass: what was asked is on disk, and
			// carrying it out may take as long as it takes.
			a.done <- a.do()
		}
	}
}

// all is the complete set of tasks that are wanted, the oldest first.
func (l *loop) all() []spec.Task {
	var out []spec.Task
	add := func(tasks map[string]*task) {
		for _, t := range tasks {
			if !t.over() {
				out = append(out, t.want)
			}
		}
	}
	for _, s := range l.services {
		add(s.tasks)
	}
	add(l.single)
	slices.SortFunc(out, func(a, b spec.Task) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return out
}

// observe takes in statuses.
func (l *loop) observe(reports map[string]spec.TaskStatus) {
	now := l.c.Now()
	for id, st := range reports {
		if t := l.single[id]; t != nil {
			t.status, t.seen = st, true
			if t.over() {
				delete(l.single, id)
				l.changed = true
			}
			continue
		}
		s := l.services[st.Service]
		if s == nil || s.tasks[id] == nil {
			continue
		}
		t := s.tasks[id]
		t.status, t.seen = st, true
		m := s.rec.Tasks[id]
		if st.LastStatus == spec.StatusRunning && m.Since.IsZero() {
			m.Since = now
		}
		switch st.HealthStatus {
		case spec.HealthHealthy:
			m.Healthy = true
		case spec.HealthUnhealthy:
			m.Healthy = false
		}
		s.rec.Tasks[id] = m
		s.pin(t)
		s.dirty = true
		l.changed = l.changed || t.over()
	}
}

// want takes in a set of desired services.
func (l *loop) want(desired []Desired) {
	if !l.known {
		l.known, l.changed = true, true // the first set is handed on even when it is empty
	}
	named := map[string]bool{}
	for _, d := range desired {
		if named[d.Name] {
			l.c.Log.Error("a service is wanted twice; the second is passed over", "service", d.Name, "file", d.File)
			continue
		}
		named[d.Name] = true
		s := l.services[d.Name]
		if s == nil {
			s = newService(d.Name, record{CreatedAt: l.c.Now().Wall})
			l.services[d.Name] = s
		}
		l.adapt(s, d)
	}
	for name, s := range l.services {
		if !named[name] && !s.rec.Removed {
			s.rec.Removed, s.lost, s.dirty = true, false, true
		}
	}
}

// adapt brings a service up to what is wanted of it. Only another definition is a new
// deployment; anything else is taken over as it is.
func (l *loop) adapt(s *service, d Desired) {
	s.lost = false
	s.rec.Service, s.rec.File, s.rec.Removed = d.Service, d.File, false
	s.rec.Service.ServiceName = s.name
	s.dirty = true
	hash := spec.Hash(d.Definition)
	if s.rec.Asked.Hash == hash && s.rec.State.Primary() != nil {
		return
	}
	s.rec.Asked = definition{Hash: hash, Definition: d.Definition}
	if p := s.rec.State.Primary(); p != nil && p.State != spec.RolloutFailed && s.rec.Definitions[p.ID].Hash == hash {
		return // back to what a rollback has gone back to already
	}
	if old := s.reusable(hash); old != nil {
		l.deploy(s, old.ID, old.Revision)
		return
	}
	s.rec.Revision++
	l.deploy(s, newDeploymentID(), s.rec.Revision)
}

// reusable is a deployment of that definition that still has tasks.
func (s *service) reusable(hash string) *deploy.Deployment {
	for i, d := range s.rec.State.Deployments {
		if d.State == spec.RolloutFailed || s.rec.Definitions[d.ID].Hash != hash {
			continue
		}
		for _, t := range s.tasks {
			if t.want.StartedBy == d.ID && !t.asked() && !t.over() {
				return &s.rec.State.Deployments[i]
			}
		}
	}
	return nil
}

// deploy makes a deployment of the definition asked for the service's primary one.
func (l *loop) deploy(s *service, id string, revision int) {
	if _, known := s.rec.Definitions[id]; !known {
		s.rec.Definitions[id] = s.rec.Asked
	}
	s.rec.State = s.rec.State.Deploy(id, revision, l.c.Now())
	s.dirty = true
	l.tell(s, deploy.DeploymentStarted(s.name, id, nameRevision(s.rec.Definitions[id].Definition.Family, revision)))
}

// sleep is how long nothing has to be done, as far as one can know.
func (l *loop) sleep() time.Duration {
	now, d := l.c.Now(), time.Hour
	for _, s := range l.services {
		if s.due.IsZero() {
			continue
		}
		if left, same := s.due.Since(now); !same || left < d {
			d = left
		}
	}
	return max(d, 0)
}

// isDue reports whether the service is to be looked at.
func (s *service) isDue(now spec.Time) bool {
	if s.dirty {
		return true
	}
	if s.due.IsZero() {
		return false
	}
	left, same := s.due.Since(now)
	return !same || left <= 0
}
