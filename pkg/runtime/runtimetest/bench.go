package runtimetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"testing"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// bench is where one test works: the runtime, and short words for what tests do with it.
type bench struct {
	*testing.T
	f      Fixture
	r      runtime.Runtime
	ctx    context.Context
	events <-chan string
	made   []spec.Task
}

// def is a container of the test image that runs a testbox command.
func def(name string, command ...string) spec.ContainerDefinition {
	essential := true
	return spec.ContainerDefinition{Name: name, Command: command, Essential: &essential, Memory: 64}
}

// task makes a task of a fresh id, on no network. Its containers run the test image
// unless they name another one.
func (b *bench) task(mode string, containers ...spec.ContainerDefinition) spec.Task {
	b.Helper()
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	for i := range containers {
		if containers[i].Image == "" {
			containers[i].Image = b.f.ImageRef
		}
	}
	t := spec.Task{
		ID: hex.EncodeToString(id), Family: "suite", Revision: 3, Slot: 2, Service: "suite-service", Source: "test",
		DesiredStatus: spec.StatusRunning, CreatedAt: time.Now(),
		Definition: spec.TaskDefinition{Family: "suite", NetworkMode: mode, ContainerDefinitions: containers},
	}
	b.made = append(b.made, t)
	return t
}

// ok fails the test when err is not nil.
func (b *bench) ok(what string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

// pull pulls the test image.
func (b *bench) pull() runtime.Image {
	b.Helper()
	image, err := b.r.Pull(b.ctx, b.f.ImageRef, runtime.Auth{})
	b.ok("pull "+b.f.ImageRef, err)
	return image
}

// create pulls, makes the sandbox and creates all containers.
func (b *bench) create(t spec.Task) {
	b.Helper()
	image := b.pull()
	b.ok("create sandbox", b.r.CreateSandbox(b.ctx, t))
	for _, c := range t.Definition.ContainerDefinitions {
		b.ok("create container "+c.Name, b.r.CreateContainer(b.ctx, t, runtime.CreateConfig{Name: c.Name, Image: image}))
	}
}

// start creates and starts all containers.
func (b *bench) start(t spec.Task) {
	b.Helper()
	b.create(t)
	for _, c := range t.Definition.ContainerDefinitions {
		b.ok("start container "+c.Name, b.r.StartContainer(b.ctx, t.ID, c.Name))
	}
}

// look observes one task, which must be there.
func (b *bench) look(t spec.Task) runtime.Task {
	b.Helper()
	seen, err := b.r.List(b.ctx, t.ID)
	b.ok("list", err)
	if len(seen) != 1 || seen[0].ID != t.ID {
		b.Fatalf("list of %s gave %d tasks, want that one: %+v", t.ID, len(seen), seen)
	}
	return seen[0]
}

// container observes one container, which must be there.
func (b *bench) container(t spec.Task, name string) runtime.Container {
	b.Helper()
	c, ok := b.look(t).Containers[name]
	if !ok {
		b.Fatalf("task %s has no container %s", t.ID, name)
	}
	return c
}

// until waits for a container to become as cond wants it. It looks when an event comes,
// and, since events may be lost, now and then without one.
func (b *bench) until(t spec.Task, name, what string, cond func(runtime.Container) bool) runtime.Container {
	b.Helper()
	deadline := time.NewTimer(b.f.Deadline)
	defer deadline.Stop()
	for {
		c := b.container(t, name)
		if cond(c) {
			return c
		}
		again := time.NewTimer(200 * time.Millisecond)
		select {
		case _, ok := <-b.events:
			if !ok {
				b.Fatal("the event channel was closed before its context ended")
			}
		case <-again.C:
		case <-deadline.C:
			b.Fatalf("container %s of task %s is not %s after %s: %+v", name, t.ID, what, b.f.Deadline, c)
		}
		again.Stop()
	}
}

// exited waits for a container to end and checks its code.
func (b *bench) exited(t spec.Task, name string, code int) runtime.Container {
	b.Helper()
	c := b.until(t, name, "exited", runtime.Container.Exited)
	if c.Live() {
		b.Errorf("container %s is live and exited: %+v", name, c)
	}
	if c.Exit.Code == nil || *c.Exit.Code != code {
		b.Errorf("container %s exited with %s, want %d", name, text(c.Exit.Code), code)
	}
	if d, ok := c.Exit.At.Since(c.Started); !ok || d < 0 {
		b.Errorf("container %s exited at %v, before its start at %v", name, c.Exit.At, c.Started)
	}
	return c
}

// gone waits until no process of the task is left that a container does not account for.
func (b *bench) gone(t spec.Task) {
	b.Helper()
	deadline := time.Now().Add(b.f.Deadline)
	for b.look(t).Processes > 0 {
		if time.Now().After(deadline) {
			b.Fatalf("task %s still has processes after %s", t.ID, b.f.Deadline)
		}
		again := time.NewTimer(50 * time.Millisecond)
		select {
		case <-b.events:
		case <-again.C:
		}
		again.Stop()
	}
}

// remove takes a task off the machine: kill, remove containers, remove sandbox.
func (b *bench) remove(t spec.Task) {
	b.Helper()
	for name, c := range b.look(t).Containers {
		if c.Live() {
			b.ok("kill "+name, b.r.KillContainer(b.ctx, t.ID, name))
			b.until(t, name, "exited", runtime.Container.Exited)
		}
		b.ok("remove container "+name, b.r.RemoveContainer(b.ctx, t.ID, name))
	}
	b.ok("remove sandbox", b.r.RemoveSandbox(b.ctx, t.ID))
}

// sweep removes what a test left behind, as far as that goes.
func (b *bench) sweep() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), b.f.Deadline)
	defer cancel()
	for _, t := range b.made {
		for ctx.Err() == nil {
			seen, err := b.r.List(ctx, t.ID)
			if err != nil || len(seen) == 0 {
				break
			}
			live := false
			for name, c := range seen[0].Containers {
				if c.Live() {
					live = true
					_ = b.r.KillContainer(ctx, t.ID, name) // looked at again
					continue
				}
				_ = b.r.RemoveContainer(ctx, t.ID, name) // looked at again
			}
			if !live {
				if err := b.r.RemoveSandbox(ctx, t.ID); err == nil {
					break
				}
			}
			timer := time.NewTimer(50 * time.Millisecond)
			<-timer.C
		}
	}
}
