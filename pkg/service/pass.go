package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"ecsd/pkg/deploy"
	"ecsd/pkg/reconcile"
	"ecsd/pkg/spec"
)

// pass looks at every service that is due, in the order of their names.
func (l *loop) pass(ctx context.Context) {
	now := l.c.Now()
	for _, name := range slices.Sorted(maps.Keys(l.services)) {
		if s := l.services[name]; s.isDue(now) {
			l.step(ctx, s)
		}
	}
	for _, t := range l.single {
		if t.unsaved && l.saveTask(t.want) == nil {
			t.unsaved = false
		}
	}
}

// step plans one service and carries the plan out. Doing it again after a crash at any
// line comes to the same end.
func (l *loop) step(ctx context.Context, s *service) {
	s.dirty, s.due = false, spec.Time{}
	if s.lost {
		s.waits = "its record was lost: its tasks are left as they are until a manifest names it"
		l.show(s.name, l.describe(s))
		return
	}
	now := l.c.Now()
	want := deploy.FromService(s.rec.Service, 1, l.c.Options)
	want.Name, want.Removed = s.name, s.rec.Removed
	steps := deploy.Plan(want, s.rec.State, s.planned(), now)

	settled := l.publish(ctx, s, steps.Serve)
	if !settled { // whoever is behind a port may not be stopped yet
		steps.Drain, steps.Stop = nil, nil
		steps.Events = slices.DeleteFunc(steps.Events, func(e deploy.Event) bool {
			return e.Reason == deploy.ReasonDraining || e.Reason == deploy.ReasonTasksStopped
		})
	}
	l.remember(s, steps)
	for _, id := range steps.Revive {
		s.tasks[id].draining = spec.Time{}
	}
	for _, id := range steps.Drain {
		s.tasks[id].draining = now
	}
	for _, stop := range steps.Stop {
		l.stop(s.tasks[stop.ID], spec.StopServiceSchedulerInitiated, stop.Reason)
	}
	l.write(s, l.starts(s, steps))

	s.waits = steps.Waiting
	if steps.After > 0 {
		s.wakeAfter(now, steps.After)
	}
	if s.rec.Removed && len(s.tasks) == 0 {
		l.remove(ctx, s)
		return
	}
	l.show(s.name, l.describe(s))
}

// planned is the service's tasks as deploy.Plan wants to know them.
func (s *service) planned() []deploy.Task {
	all := s.ordered()
	out := make([]deploy.Task, 0, len(all))
	for _, t := range all {
		m := s.rec.Tasks[t.want.ID]
		d := deploy.Task{
			ID:         t.want.ID,
			Deployment: t.want.StartedBy,
			Phase:      phase(t),
			Asked:      t.asked(),
			Created:    spec.Time{Boot: m.Boot, Wall: t.want.CreatedAt},
			Since:      m.Since,
			Draining:   t.draining,
			Attempt:    m.Attempt,
			Counted:    m.Counted,
		}
		for _, c := range t.want.Definition.ContainerDefinitions {
			d.Checked = d.Checked || c.IsEssential() && c.HasHealthCheck()
		}
		switch {
		case t.status.HealthStatus == spec.HealthUnhealthy:
			d.Health = spec.HealthUnhealthy
		case m.Healthy:
			d.Health = spec.HealthHealthy
		}
		d.Blocked, d.Holders = blocked(t, all)
		out = append(out, d)
	}
	return out
}

// blocked says what of the host's a task was not given, and which of the service's tasks
// hold it. A status that has the refusal only among what the task waits for counts as a
// refusal when one of them does.
func blocked(t *task, all []*task) (words string, holders []string) {
	if phase(t) != deploy.Pending {
		return "", nil
	}
	words = cmp.Or(t.status.Blocked, t.status.Waiting)
	for _, o := range all {
		if o != t && !o.over() && holds(words, o.want) {
			holders = append(holders, o.want.ID)
		}
	}
	if len(holders) == 0 {
		words = t.status.Blocked
	}
	return words, holders
}

// phase says in deploy's words how far a task has come.
func phase(t *task) deploy.Phase {
	if !t.seen {
		return deploy.Unseen
	}
	switch t.status.LastStatus {
	case spec.StatusRunning:
		return deploy.Running
	case spec.StatusStopping:
		return deploy.Stopping
	case spec.StatusStopped:
		return deploy.Stopped
	}
	return deploy.Pending
}

// holds reports whether the other task has something of what a task was not given, as
// reconcile.Admit said it: a host port by its number, memory, or CPU.
func holds(blocked string, other spec.Task) bool {
	if strings.Contains(blocked, "never fit") {
		return false // whoever goes, it will not help
	}
	c := reconcile.ClaimOf(other)
	words := strings.FieldsFunc(blocked, func(r rune) bool { return r == ' ' || r == ',' || r == ';' })
	for _, p := range c.Ports {
		if slices.Contains(words, p) {
			return true
		}
	}
	return c.CPU > 0 && slices.Contains(words, "CPU") || c.Memory > 0 && slices.Contains(words, "memory:")
}

// remember takes over the plan's state, and lets go of tasks that have ended: from here on
// their ends are in the state.
func (l *loop) remember(s *service, steps deploy.Steps) {
	s.rec.State = steps.State
	for id, t := range s.tasks {
		if t.over() {
			delete(s.tasks, id)
			delete(s.rec.Tasks, id)
			l.changed = true
			continue
		}
		m := s.rec.Tasks[id]
		m.Counted = slices.Contains(steps.Counted, id)
		s.rec.Tasks[id] = m
	}
	for id := range s.rec.Definitions {
		if s.rec.State.Find(id) == nil {
			delete(s.rec.Definitions, id)
		}
	}
	for _, e := range steps.Events {
		l.tell(s, e)
	}
}

// stop asks a task to stop. It is a new value: the one handed on stays as it was.
func (l *loop) stop(t *task, code, reason string) {
	if t.asked() {
		return
	}
	t.want.DesiredStatus, t.want.StopCode, t.want.StoppedReason = spec.StatusStopped, code, reason
	t.unsaved = true
	l.changed = true
}

// starts makes the tasks that a plan starts.
func (l *loop) starts(s *service, steps deploy.Steps) []*task {
	if steps.Start <= 0 {
		return nil
	}
	d := s.rec.State.Find(steps.Target)
	def := s.rec.Definitions[d.ID]
	slots := l.slots(def.Definition.Family)
	out := make([]*task, steps.Start)
	for i := range out {
		t := l.newTask(def.Definition, slots.next())
		t.want.Revision = d.Revision
		t.want.Service, t.want.Group, t.want.StartedBy = s.name, "service:"+s.name, d.ID
		t.want.Images = maps.Clone(def.Images)
		s.rec.Tasks[t.want.ID] = mark{Attempt: steps.Attempt, Boot: l.c.Now().Boot}
		out[i] = t
	}
	return out
}

// write puts on disk what has changed of a service: new tasks, tasks that are to stop, and
// the record, side by side, since each write waits for the disk. A new task that could not
// be written does not come to be; a stop is carried out nevertheless.
func (l *loop) write(s *service, fresh []*task) {
	var stops []*task
	for _, t := range s.tasks {
		if t.unsaved {
			stops = append(stops, t)
		}
	}
	errs := make([]error, len(fresh)+len(stops)+1)
	var wg sync.WaitGroup
	for i, t := range slices.Concat(fresh, stops) {
		wg.Go(func() { errs[i] = l.saveTask(t.want) })
	}
	errs[len(errs)-1] = l.saveRecord(s)
	wg.Wait()

	var made []string
	for i, t := range fresh {
		if errs[i] != nil {
			delete(s.rec.Tasks, t.want.ID)
			continue
		}
		s.tasks[t.want.ID] = t
		made = append(made, t.want.ID)
		l.changed = true
	}
	for i, t := range stops {
		t.unsaved = errs[len(fresh)+i] != nil
	}
	if len(made) > 0 {
		l.tell(s, deploy.TasksStarted(s.name, made))
	}
	if err := errors.Join(errs...); err != nil {
		l.c.Log.Error("state cannot be written; it is tried again", "service", s.name, "err", err)
		s.wakeAfter(l.c.Now(), retryAfter)
	}
}

func (l *loop) saveTask(t spec.Task) error {
	err := l.c.Records.SaveTask(t)
	if err != nil {
		l.metrics.storeErrors.WithLabelValues("save_task").Inc()
	}
	return err
}

func (l *loop) saveRecord(s *service) error {
	err := l.save(s)
	if err != nil {
		l.metrics.storeErrors.WithLabelValues("save_service").Inc()
	}
	return err
}

// remove forgets a service whose last task has gone.
func (l *loop) remove(ctx context.Context, s *service) {
	if !l.unpublish(ctx, s) {
		s.wakeAfter(l.c.Now(), retryAfter)
		return
	}
	if err := l.forget(s); err != nil {
		l.c.Log.Error("state cannot be written; it is tried again", "service", s.name, "err", err)
		l.metrics.storeErrors.WithLabelValues("remove_service").Inc()
		s.wakeAfter(l.c.Now(), retryAfter)
		return
	}
	delete(l.services, s.name)
	l.show(s.name, nil)
	l.changed = true
}

// newTask makes a task that is to run, with an id that nobody else has.
func (l *loop) newTask(def spec.TaskDefinition, slot int) *task {
	return &task{
		seen: true, // there is nothing to be told of it yet
		want: spec.Task{
			ID:            newTaskID(),
			Cluster:       l.c.Cluster,
			Family:        def.Family,
			Slot:          slot,
			Source:        l.c.Source,
			Group:         "family:" + def.Family,
			Definition:    def,
			DesiredStatus: spec.StatusRunning,
			CreatedAt:     l.c.Now().Wall,
		},
	}
}

// tell writes an event into the service's record and tells the node.
func (l *loop) tell(s *service, e deploy.Event) {
	now := l.c.Now().Wall
	s.rec.Events = append([]spec.ServiceEvent{{ID: newEventID(), CreatedAt: now, Message: e.Message}}, s.rec.Events...)
	if len(s.rec.Events) > maxEvents {
		s.rec.Events = s.rec.Events[:maxEvents]
	}
	if l.c.Event == nil {
		return
	}
	kind := spec.EventNormal
	if e.Warning {
		kind = spec.EventWarning
	}
	l.c.Event(spec.Event{Time: now, Type: kind, Object: "service/" + s.name, Reason: e.Reason, Message: e.Message})
}

// wakeAfter notes that the service is to be looked at after d, unless it is sooner.
func (s *service) wakeAfter(now spec.Time, d time.Duration) {
	at := now.Add(d)
	if !s.due.IsZero() {
		if left, same := at.Since(s.due); same && left >= 0 {
			return
		}
	}
	s.due = at
}

func nameRevision(family string, revision int) string { return fmt.Sprintf("%s:%d", family, revision) }

// newTaskID is 32 random hex digits, as ECS's are.
func newTaskID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x", b)
}

// newEventID is a random UUID, as ECS's events have.
func newEventID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newDeploymentID is "ecs-svc/" and 19 digits, as ECS's are.
func newDeploymentID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	var n uint64
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return fmt.Sprintf("ecs-svc/%019d", n%9e18+1e18)
}
