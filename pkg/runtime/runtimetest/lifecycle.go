package runtimetest

import (
	"fmt"
	"strings"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

func text(code *int) string {
	if code == nil {
		return "an unknown code"
	}
	return fmt.Sprintf("code %d", *code)
}

var lifecycle = []test{
	{name: "Life", run: life},
	{name: "ExitCodes", run: exitCodes},
	{name: "Restart", run: restart},
	{name: "Stop", run: stop},
	{name: "StopIsOnce", run: stopIsOnce},
	{name: "Kill", run: kill},
	{name: "RemoveFreesNames", run: removeFreesNames},
	{name: "List", run: list},
	{name: "Environment", run: environment},
}

// life walks one container through its states.
func life(b *bench) {
	t := b.task("none", def("app", "pause"))
	before := time.Now()
	image := b.pull()
	if image.Ref != b.f.ImageRef || !strings.HasPrefix(image.Digest, "sha256:") {
		b.Errorf("pull gave %+v, want the reference as asked for and a digest", image)
	}
	b.ok("create sandbox", b.r.CreateSandbox(b.ctx, t))
	seen := b.look(t)
	if seen.Sandbox == nil || !seen.Sandbox.Ready || seen.Sandbox.NetworkMode != "none" {
		b.Errorf("sandbox is %+v, want a ready one of mode none", seen.Sandbox)
	}
	if len(seen.Containers) != 0 {
		b.Errorf("a fresh sandbox has containers: %+v", seen.Containers)
	}

	b.ok("create container", b.r.CreateContainer(b.ctx, t, runtime.CreateConfig{Name: "app", Image: image}))
	c := b.container(t, "app")
	if c.Name != "app" || c.ID != t.ID+"-0" || c.SpecHash == "" || c.ImageDigest != image.Digest {
		b.Errorf("created container is %+v, want name app, id %s-0, a spec hash and digest %s", c, t.ID, image.Digest)
	}
	if c.Created.IsZero() || !c.Started.IsZero() || c.Live() || c.Exited() || c.PID != 0 {
		b.Errorf("created container is %+v, want it created, not started and without a process", c)
	}

	b.ok("start", b.r.StartContainer(b.ctx, t.ID, "app"))
	c = b.container(t, "app")
	if !c.Live() || c.PID == 0 || c.Restarts != 0 || !c.StopSignaled.IsZero() {
		b.Errorf("started container is %+v, want it live with a process, no restart, no stop signal", c)
	}
	if d, ok := c.Started.Since(c.Created); !ok || d < 0 {
		b.Errorf("started at %+v, created at %+v: want them in order and of one boot", c.Started, c.Created)
	}
	if c.Started.Wall.Before(before.Add(-time.Second)) || c.Started.Wall.After(time.Now().Add(time.Second)) {
		b.Errorf("started at wall time %s, not during the test", c.Started.Wall)
	}
	if n := b.look(t).Processes; n != 0 {
		b.Errorf("%d processes are not accounted for, want the live container's to be", n)
	}

	b.ok("stop", b.r.StopContainer(b.ctx, t.ID, "app"))
	b.exited(t, "app", 0)
	b.ok("remove container", b.r.RemoveContainer(b.ctx, t.ID, "app"))
	if seen := b.look(t); len(seen.Containers) != 0 {
		b.Errorf("removed container is still seen: %+v", seen.Containers)
	}
	b.ok("remove sandbox", b.r.RemoveSandbox(b.ctx, t.ID))
	if seen, err := b.r.List(b.ctx, t.ID); err != nil || len(seen) != 0 {
		b.Errorf("after removal list gives %+v, %v; want nothing", seen, err)
	}
}

// exitCodes are passed on as they are.
func exitCodes(b *bench) {
	codes := map[string]int{"zero": 0, "one": 1, "seven": 7, "high": 255}
	var defs []spec.ContainerDefinition
	for name, code := range codes {
		defs = append(defs, def(name, "exit", fmt.Sprint(code)))
	}
	t := b.task("none", defs...)
	b.start(t)
	for name, code := range codes {
		c := b.exited(t, name, code)
		if c.Exit.OOMKilled {
			b.Errorf("container %s is said to be OOM killed: %+v", name, c.Exit)
		}
	}
	b.gone(t)
	b.remove(t)
}

// restart runs an exited container again: same files, one more restart, a new run.
func restart(b *bench) {
	t := b.task("none", def("app", "after", "300ms", "3"))
	b.start(t)
	first := b.exited(t, "app", 3)
	b.gone(t)
	b.ok("start again", b.r.StartContainer(b.ctx, t.ID, "app"))
	second := b.container(t, "app")
	if second.Restarts != 1 {
		b.Errorf("restarts are %d, want 1", second.Restarts)
	}
	if d, ok := second.Started.Since(first.Exit.At); !ok || d < 0 {
		b.Errorf("second run started at %+v, before the first ended at %+v", second.Started, first.Exit.At)
	}
	if second.ID != first.ID || second.SpecHash != first.SpecHash {
		b.Errorf("identity changed with a restart: %+v, was %+v", second, first)
	}
	b.exited(t, "app", 3)
	b.remove(t)

	// A stop signal belongs to one run.
	t = b.task("none", def("app", "pause"))
	b.start(t)
	b.ok("stop", b.r.StopContainer(b.ctx, t.ID, "app"))
	b.exited(t, "app", 0)
	b.gone(t)
	b.ok("start again", b.r.StartContainer(b.ctx, t.ID, "app"))
	if c := b.container(t, "app"); !c.Live() || !c.StopSignaled.IsZero() || c.Restarts != 1 {
		b.Errorf("started again it is %+v, want it live, with one restart, and not signalled", c)
	}
	b.remove(t)
}

// stop signals, records when, and leaves one who ignores it alone.
func stop(b *bench) {
	t := b.task("none", def("good", "pause"), def("bad", "ignore"))
	b.start(t)
	for _, name := range []string{"good", "bad"} {
		b.ok("stop "+name, b.r.StopContainer(b.ctx, t.ID, name))
	}
	good := b.exited(t, "good", 0)
	bad := b.container(t, "bad")
	if !bad.Live() || bad.StopSignaled.IsZero() {
		b.Errorf("container that ignores the signal is %+v, want it live and signalled", bad)
	}
	if good.StopSignaled.IsZero() {
		b.Errorf("stopped container is %+v, want it signalled", good)
	}
	if d, ok := bad.StopSignaled.Since(bad.Started); !ok || d < 0 {
		b.Errorf("signalled at %+v, started at %+v", bad.StopSignaled, bad.Started)
	}
	b.remove(t)
}

// stopIsOnce keeps the time of the first signal.
func stopIsOnce(b *bench) {
	t := b.task("none", def("bad", "ignore"))
	b.start(t)
	b.ok("stop", b.r.StopContainer(b.ctx, t.ID, "bad"))
	first := b.container(t, "bad").StopSignaled
	b.ok("stop again", b.r.StopContainer(b.ctx, t.ID, "bad"))
	if second := b.container(t, "bad").StopSignaled; second != first {
		b.Errorf("second stop moved the time of the signal from %+v to %+v", first, second)
	}
	b.remove(t)
}

// kill ends whoever ignores the stop signal.
func kill(b *bench) {
	t := b.task("none", def("bad", "ignore"))
	b.start(t)
	b.ok("kill", b.r.KillContainer(b.ctx, t.ID, "bad"))
	b.exited(t, "bad", 137)
	b.ok("kill the dead", b.r.KillContainer(b.ctx, t.ID, "bad"))
	b.ok("stop the dead", b.r.StopContainer(b.ctx, t.ID, "bad"))
	b.gone(t)
	b.remove(t)
}

// removeFreesNames makes the same task twice, one after the other.
func removeFreesNames(b *bench) {
	t := b.task("none", def("app", "pause"))
	for range 2 {
		b.start(t)
		b.remove(t)
	}
}

// list finds tasks with and without ids, and says who they are.
func list(b *bench) {
	if seen, err := b.r.List(b.ctx); err != nil || len(seen) != 0 {
		b.Fatalf("list of an empty machine gives %+v, %v", seen, err)
	}
	one, two := b.task("none", def("app", "pause")), b.task("none", def("app", "pause"), def("side", "pause"))
	b.start(one)
	b.start(two)
	all, err := b.r.List(b.ctx)
	b.ok("list", err)
	if len(all) != 2 {
		b.Fatalf("list gives %d tasks, want 2: %+v", len(all), all)
	}
	for _, seen := range all {
		want := map[string]int{one.ID: 1, two.ID: 2}[seen.ID]
		if len(seen.Containers) != want {
			b.Errorf("task %s is listed with %d containers, want %d", seen.ID, len(seen.Containers), want)
		}
		if id := (runtime.Identity{Cluster: "default", Family: "suite", Service: "suite-service", Source: "test", Revision: 3, Slot: 2}); seen.Identity != id {
			b.Errorf("task %s says it is %+v, want %+v", seen.ID, seen.Identity, id)
		}
	}
	both, err := b.r.List(b.ctx, two.ID, "00000000000000000000000000000000", one.ID)
	b.ok("list two and an unknown one", err)
	if len(both) != 2 {
		b.Errorf("list of two and an unknown one gives %d tasks, want 2", len(both))
	}
	b.remove(one)
	b.remove(two)
}

// environment given at creation is not part of the spec's hash.
func environment(b *bench) {
	t := b.task("none", def("app", "pause"))
	image := b.pull()
	b.ok("create sandbox", b.r.CreateSandbox(b.ctx, t))
	for _, value := range []string{"one", "two"} {
		b.ok("create container", b.r.CreateContainer(b.ctx, t,
			runtime.CreateConfig{Name: "app", Image: image, Env: map[string]string{"SECRET": value}}))
	}
	b.remove(t)
}
