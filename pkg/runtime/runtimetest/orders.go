package runtimetest

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"

	"ecsd/pkg/runtime"
)

var orders = []test{
	{name: "TwiceIsOnce", run: twiceIsOnce},
	{name: "UnknownNames", run: unknownNames},
	{name: "OutOfOrder", run: outOfOrder},
}

// twiceIsOnce calls each method twice in each state it may be called in.
func twiceIsOnce(b *bench) {
	t := b.task("none", def("app", "ignore"))
	image := b.pull()
	if again := b.pull(); again.Digest != image.Digest {
		b.Errorf("pulled twice: %s, then %s", image.Digest, again.Digest)
	}
	for range 2 {
		b.ok("create sandbox", b.r.CreateSandbox(b.ctx, t))
	}
	config := runtime.CreateConfig{Name: "app", Image: image}
	for range 2 {
		b.ok("create container", b.r.CreateContainer(b.ctx, t, config))
	}
	for range 2 {
		b.ok("start", b.r.StartContainer(b.ctx, t.ID, "app"))
	}
	c := b.container(t, "app")
	if c.Restarts != 0 {
		b.Errorf("starting a live container counted %d restarts", c.Restarts)
	}
	b.ok("create sandbox of a live task", b.r.CreateSandbox(b.ctx, t))
	b.ok("create live container", b.r.CreateContainer(b.ctx, t, config))
	if again := b.container(t, "app"); !again.Live() || again.PID != c.PID || again.Created != c.Created {
		b.Errorf("repeated calls changed the container from %+v to %+v", c, again)
	}
	for range 2 {
		b.ok("stop", b.r.StopContainer(b.ctx, t.ID, "app"))
	}
	for range 2 {
		b.ok("kill", b.r.KillContainer(b.ctx, t.ID, "app"))
	}
	b.exited(t, "app", 137)
	b.gone(t)
	for range 2 {
		b.ok("remove container", b.r.RemoveContainer(b.ctx, t.ID, "app"))
	}
	for range 2 {
		b.ok("remove sandbox", b.r.RemoveSandbox(b.ctx, t.ID))
	}
}

// unknownNames are ErrNotFound, but for removals, which have nothing to do.
func unknownNames(b *bench) {
	t := b.task("none", def("app", "pause"))
	b.create(t)
	nobody := "00000000000000000000000000000000"
	for what, call := range map[string]func(context.Context, string, string) error{
		"start": b.r.StartContainer, "stop": b.r.StopContainer, "kill": b.r.KillContainer,
	} {
		if err := call(b.ctx, nobody, "app"); !errdefs.IsNotFound(err) {
			b.Errorf("%s in an unknown task: %v, want ErrNotFound", what, err)
		}
		if err := call(b.ctx, t.ID, "nobody"); !errdefs.IsNotFound(err) {
			b.Errorf("%s of an unknown container: %v, want ErrNotFound", what, err)
		}
	}
	b.ok("remove unknown container", b.r.RemoveContainer(b.ctx, t.ID, "nobody"))
	b.ok("remove container of unknown task", b.r.RemoveContainer(b.ctx, nobody, "app"))
	b.ok("remove unknown sandbox", b.r.RemoveSandbox(b.ctx, nobody))
	b.remove(t)
}

// outOfOrder calls are ErrFailedPrecondition and change nothing.
func outOfOrder(b *bench) {
	t := b.task("none", def("app", "pause"))
	image := b.pull()
	config := runtime.CreateConfig{Name: "app", Image: image}
	early := func(what string, err error) {
		b.Helper()
		if !errdefs.IsFailedPrecondition(err) {
			b.Errorf("%s: %v, want ErrFailedPrecondition", what, err)
		}
	}
	early("create container without a sandbox", b.r.CreateContainer(b.ctx, t, config))
	b.ok("create sandbox", b.r.CreateSandbox(b.ctx, t))
	b.ok("create container", b.r.CreateContainer(b.ctx, t, config))

	other := t
	other.Definition.ContainerDefinitions = append(other.Definition.ContainerDefinitions[:0:0], def("app", "exit", "1"))
	other.Definition.ContainerDefinitions[0].Image = b.f.ImageRef
	early("create a container of another spec", b.r.CreateContainer(b.ctx, other, config))
	early("remove a sandbox in use", b.r.RemoveSandbox(b.ctx, t.ID))

	b.ok("start", b.r.StartContainer(b.ctx, t.ID, "app"))
	early("remove a live container", b.r.RemoveContainer(b.ctx, t.ID, "app"))
	early("remove the sandbox of a live container", b.r.RemoveSandbox(b.ctx, t.ID))
	if c := b.container(t, "app"); !c.Live() {
		b.Errorf("refused calls changed the container: %+v", c)
	}
	b.remove(t)
}

var faults = []test{
	{name: "NoSuchExecutable", run: noSuchExecutable},
	{name: "NoSuchUser", run: noSuchUser},
	{name: "NoSuchImage", run: noSuchImage},
	{name: "CanceledPull", run: canceledPull},
}

// noSuchExecutable is the definition's own fault.
func noSuchExecutable(b *bench) {
	c := def("app")
	c.EntryPoint = []string{"/no/such/executable"}
	t := b.task("none", c)
	image := b.pull()
	b.ok("create sandbox", b.r.CreateSandbox(b.ctx, t))
	err := b.r.CreateContainer(b.ctx, t, runtime.CreateConfig{Name: "app", Image: image})
	if err == nil {
		err = b.r.StartContainer(b.ctx, t.ID, "app")
	}
	b.final(err, "CannotStartContainerError", "CannotCreateContainerError")
	if seen := b.look(t); seen.Containers["app"].Live() || seen.Processes != 0 {
		b.Errorf("a container that could not start is live: %+v", seen)
	}
	b.remove(t)
}

// noSuchUser is too.
func noSuchUser(b *bench) {
	c := def("app", "pause")
	c.User = "no-such-user"
	t := b.task("none", c)
	image := b.pull()
	b.ok("create sandbox", b.r.CreateSandbox(b.ctx, t))
	err := b.r.CreateContainer(b.ctx, t, runtime.CreateConfig{Name: "app", Image: image})
	if err == nil {
		err = b.r.StartContainer(b.ctx, t.ID, "app")
	}
	b.final(err, "CannotStartContainerError", "CannotCreateContainerError")
	b.remove(t)
}

// noSuchImage is too.
func noSuchImage(b *bench) {
	_, err := b.r.Pull(b.ctx, b.f.MissingRef, runtime.Auth{})
	b.final(err, "CannotPullContainerError", "CannotPullImageManifestError")
}

// final checks that an error is a TaskError with one of the codes.
func (b *bench) final(err error, codes ...string) {
	b.Helper()
	te, ok := runtime.Final(err)
	if !ok {
		b.Fatalf("error is %v, want a *runtime.TaskError: the definition is to blame", err)
	}
	for _, code := range codes {
		if te.Code == code {
			if te.Message == "" {
				b.Errorf("the error says nothing but %s", te.Code)
			}
			return
		}
	}
	b.Errorf("error's code is %q, want one of %q", te.Code, codes)
}

// canceledPull fails, is nobody's fault, and can be tried again.
func canceledPull(b *bench) {
	ctx, cancel := context.WithDeadline(b.ctx, time.Now().Add(-time.Second))
	defer cancel()
	_, err := b.r.Pull(ctx, b.f.ImageRef, runtime.Auth{})
	if err == nil {
		b.Error("a pull without time left succeeded")
	}
	if _, final := runtime.Final(err); final {
		b.Errorf("a pull without time left is said to be the definition's fault: %v", err)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		b.Logf("the error of a canceled pull does not wrap its context's: %v", err)
	}
	b.pull()
}
