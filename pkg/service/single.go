package service

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"ecsd/pkg/spec"
)

var (
	errNotFound = errdefs.ErrNotFound
	errNewer    = errors.New("written by a newer ecsd")
)

// stopTask carries out Services.StopTask.
func (l *loop) stopTask(id, reason string) error {
	t := l.single[id]
	if t == nil {
		for _, s := range l.services {
			if t = s.tasks[id]; t != nil {
				s.dirty = true
				break
			}
		}
	}
	if t == nil {
		if _, ended := l.c.Records.Ended(id); ended {
			return nil
		}
		return notFound("task", id)
	}
	l.stop(t, spec.StopUserInitiated, reason)
	if t.unsaved {
		// Not even a full disk keeps a task from being stopped: it is written later.
		if err := l.saveTask(t.want); err != nil {
			l.c.Log.Error("state cannot be written; it is tried again", "task", id, "err", err)
			return nil
		}
		t.unsaved = false
	}
	return nil
}

// restart carries out Services.Restart.
func (l *loop) restart(name string) error {
	s := l.services[name]
	if s == nil || s.rec.Removed {
		return notFound("service", name)
	}
	// The definition asked for may have run before a rollback: it has its revision then.
	revision := s.revisionOf(s.rec.Asked.Hash)
	if revision == 0 {
		s.rec.Revision++
		revision = s.rec.Revision
	}
	l.deploy(s, newDeploymentID(), revision)
	return nil
}

// revisionOf is the revision that a definition has among the service's deployments, or 0.
func (s *service) revisionOf(hash string) int {
	for _, d := range s.rec.State.Deployments {
		if s.rec.Definitions[d.ID].Hash == hash {
			return d.Revision
		}
	}
	return 0
}

// runTask carries out Services.RunTask.
func (l *loop) runTask(def spec.TaskDefinition) (string, error) {
	t := l.newTask(def, l.slots(def.Family).next())
	if err := l.saveTask(t.want); err != nil {
		return "", fmt.Errorf("run task of %s: %w", def.Family, err)
	}
	l.single[t.want.ID] = t
	l.known, l.changed = true, true
	return t.want.ID, nil
}

// slots are the numbers that tasks of one family have.
type slots map[int]bool

// slots lists the numbers that are taken in the family.
func (l *loop) slots(family string) slots {
	taken := slots{}
	add := func(tasks map[string]*task) {
		for _, t := range tasks {
			if t.want.Family == family && !t.over() {
				taken[t.want.Slot] = true
			}
		}
	}
	for _, s := range l.services {
		add(s.tasks)
	}
	add(l.single)
	return taken
}

// next takes the smallest number that is free.
func (s slots) next() int {
	n := 1
	for s[n] {
		n++
	}
	s[n] = true
	return n
}

// pin keeps the digests that a deployment's first task has resolved its images to: those
// started later run the same (ECS: versionConsistency).
func (s *service) pin(t *task) {
	def, ok := s.rec.Definitions[t.want.StartedBy]
	if !ok {
		return
	}
	for _, c := range t.status.Containers {
		d, known := t.want.Container(c.Name)
		if !known || c.ImageDigest == "" || def.Images[c.Name] != "" || d.VersionConsistency == "disabled" {
			continue
		}
		images := map[string]string{c.Name: c.ImageDigest}
		for name, digest := range def.Images {
			images[name] = digest
		}
		def.Images = images
		s.rec.Definitions[t.want.StartedBy] = def
	}
}
