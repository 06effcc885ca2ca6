package runtimetest

import (
	"context"
	"strings"
	"time"

	"ecsd/pkg/runtime"
)

var watching = []test{
	{name: "ExitSendsEvent", run: exitSendsEvent},
	{name: "EventsEnd", run: eventsEnd},
}

// exitSendsEvent: an exit that nobody asked for leads to an event of its task, or to one
// that says that anything may have changed.
func exitSendsEvent(b *bench) {
	t := b.task("none", def("app", "after", "500ms", "4"))
	b.start(t)
	deadline := time.NewTimer(b.f.Deadline)
	defer deadline.Stop()
	for {
		select {
		case id := <-b.events:
			if id != t.ID && id != "" {
				b.Fatalf("event of task %q, which was never made", id)
			}
			if b.container(t, "app").Exited() {
				b.exited(t, "app", 4)
				b.remove(t)
				return
			}
		case <-deadline.C:
			b.Fatalf("no event came after the exit within %s: %+v", b.f.Deadline, b.container(t, "app"))
		}
	}
}

// eventsEnd: a subscription ends with its context, others go on.
func eventsEnd(b *bench) {
	ctx, cancel := context.WithCancel(b.ctx)
	second := b.r.Events(ctx)
	cancel()
	deadline := time.NewTimer(b.f.Deadline)
	defer deadline.Stop()
	for open := true; open; {
		select {
		case _, open = <-second:
		case <-deadline.C:
			b.Fatalf("the channel is not closed %s after its context ended", b.f.Deadline)
		}
	}
	t := b.task("none", def("app", "after", "100ms", "0"))
	b.start(t)
	b.exited(t, "app", 0)
	b.remove(t)
}

var executing = []test{
	{name: "Exec", run: execs},
	{name: "ExecKeepsFiles", run: execKeepsFiles},
	{name: "ExecTimeout", run: execTimeout},
}

// execer skips the test when the runtime cannot exec.
func (b *bench) execer() runtime.Execer {
	b.Helper()
	e, ok := b.r.(runtime.Execer)
	if !ok {
		b.Skip("this runtime does not run commands in containers")
	}
	return e
}

// execs gives code and output, bounded, and leaves the container alone.
func execs(b *bench) {
	e := b.execer()
	t := b.task("none", def("app", "pause"))
	b.start(t)
	res, err := e.Exec(b.ctx, t.ID, "app", "check", []string{"/testbox", "echo", "all", "well"}, 4096)
	b.ok("exec echo", err)
	if res.Code != 0 || strings.TrimSpace(res.Output) != "all well" {
		b.Errorf("echo gave %+v", res)
	}
	res, err = e.Exec(b.ctx, t.ID, "app", "check", []string{"/testbox", "exit", "9"}, 4096)
	b.ok("exec exit", err)
	if res.Code != 9 {
		b.Errorf("exit 9 gave code %d", res.Code)
	}
	res, err = e.Exec(b.ctx, t.ID, "app", "check", []string{"/testbox", "echo", strings.Repeat("x", 500)}, 100)
	b.ok("exec with much output", err)
	if len(res.Output) > 100 {
		b.Errorf("output has %d bytes, want at most 100", len(res.Output))
	}
	if _, err := e.Exec(b.ctx, t.ID, "app", "check", []string{"/no/such"}, 100); err == nil {
		b.Error("exec of what is not there succeeded")
	}
	if c := b.container(t, "app"); !c.Live() || c.Restarts != 0 {
		b.Errorf("exec changed the container: %+v", c)
	}
	b.ok("kill", b.r.KillContainer(b.ctx, t.ID, "app"))
	b.until(t, "app", "exited", runtime.Container.Exited)
	if _, err := e.Exec(b.ctx, t.ID, "app", "check", []string{"/testbox", "echo"}, 100); err == nil {
		b.Error("exec in a dead container succeeded")
	}
	b.remove(t)
}

// execKeepsFiles: a restarted container finds the files of the run before, a removed and
// newly created one does not.
func execKeepsFiles(b *bench) {
	e := b.execer()
	exists := func(name string, want int) {
		b.Helper()
		t := b.made[len(b.made)-1]
		res, err := e.Exec(b.ctx, t.ID, "app", "look", []string{"/testbox", "exists", name}, 100)
		b.ok("exec exists", err)
		if res.Code != want {
			b.Errorf("exists %s gave %d, want %d", name, res.Code, want)
		}
	}
	t := b.task("none", def("app", "pause"))
	b.start(t)
	exists("/tmp/mark", 1)
	res, err := e.Exec(b.ctx, t.ID, "app", "write", []string{"/testbox", "write", "/tmp/mark", "x"}, 100)
	b.ok("exec write", err)
	if res.Code != 0 {
		b.Fatalf("write gave %+v", res)
	}
	b.ok("stop", b.r.StopContainer(b.ctx, t.ID, "app"))
	b.exited(t, "app", 0)
	b.gone(t)
	b.ok("start again", b.r.StartContainer(b.ctx, t.ID, "app"))
	exists("/tmp/mark", 0)
	b.remove(t)
	b.start(t)
	exists("/tmp/mark", 1)
	b.remove(t)
}

// execTimeout: a command that takes too long is killed, and the next of its id runs.
func execTimeout(b *bench) {
	e := b.execer()
	t := b.task("none", def("app", "pause"))
	b.start(t)
	ctx, cancel := context.WithTimeout(b.ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := e.Exec(ctx, t.ID, "app", "check", []string{"/testbox", "ignore"}, 100); err == nil {
		b.Error("a command that never ends gave no error")
	}
	res, err := e.Exec(b.ctx, t.ID, "app", "check", []string{"/testbox", "exit", "0"}, 100)
	b.ok("exec after a time-out", err)
	if res.Code != 0 {
		b.Errorf("exec after a time-out gave %+v", res)
	}
	if n := b.look(t).Processes; n != 0 {
		b.Errorf("%d processes are left of the killed command", n)
	}
	b.remove(t)
}
