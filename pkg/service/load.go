package service

import (
	"cmp"
	"slices"
	"strings"

	"ecsd/pkg/spec"
)

// load reads services and tasks from disk. Tasks have no status yet; those that have
// ended are kept only until their end has been counted.
func (l *loop) load() error {
	records, err := l.readRecords()
	if err != nil {
		return err
	}
	for _, r := range records {
		s := newService(r.Name, r)
		l.services[r.Name] = s
	}
	tasks, err := l.c.Records.LoadTasks()
	if err != nil { // what could be read is there
		l.c.Log.Error("some tasks' records cannot be read", "err", err)
		l.metrics.storeErrors.WithLabelValues("load").Inc()
	}
	slices.SortFunc(tasks, func(a, b spec.Task) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	for _, t := range tasks {
		if t.Source == l.c.Source {
			l.adopt(t)
		}
	}
	for _, s := range l.services {
		l.rebuild(s)
		s.dirty = true
	}
	l.known = len(l.services) > 0 || len(l.single) > 0
	return nil
}

// adopt takes a task that was on disk.
func (l *loop) adopt(want spec.Task) {
	end, ended := l.c.Records.Ended(want.ID)
	if want.Service == "" {
		if !ended {
			l.single[want.ID] = &task{want: want}
		}
		return
	}
	s := l.services[want.Service]
	if ended {
		if s == nil {
			return
		}
		if _, uncounted := s.rec.Tasks[want.ID]; !uncounted {
			return
		}
	}
	if s == nil { // its record is lost: nothing is known of it but its tasks
		s = newService(want.Service, record{Name: want.Service, CreatedAt: want.CreatedAt, Service: ForDefinition(want.Definition)})
		s.rec.Service.ServiceName = want.Service
		s.lost = true
		l.services[s.name] = s
	}
	t := &task{want: want}
	if ended {
		t.status, t.seen = end, true
		t.status.LastStatus = spec.StatusStopped
	}
	s.tasks[want.ID] = t
}

// rebuild makes again, from the tasks, the deployments that the record does not know:
// those whose tasks were written and then the machine stopped, or all when it was lost.
func (l *loop) rebuild(s *service) {
	for id := range s.rec.Tasks {
		if s.tasks[id] == nil {
			delete(s.rec.Tasks, id)
		}
	}
	for _, t := range s.ordered() {
		id := t.want.StartedBy
		if s.rec.State.Find(id) != nil {
			continue
		}
		d := definition{Hash: spec.Hash(t.want.Definition), Definition: t.want.Definition, Images: t.want.Images}
		s.rec.Definitions[id] = d
		s.rec.Revision = max(s.rec.Revision, t.want.Revision)
		made := l.c.Now()
		made.Wall = t.want.CreatedAt
		newest := s.rec.State.Primary() == nil || made.Wall.After(s.rec.State.Primary().Created.Wall)
		s.rec.State = s.rec.State.Deploy(id, t.want.Revision, made)
		if newest {
			s.rec.Asked = definition{Hash: d.Hash, Definition: d.Definition}
			continue
		}
		ds := s.rec.State.Deployments // an older one belongs behind the primary
		ds[0], ds[1] = ds[1], ds[0]
	}
}
