package reconcile

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ecsd/pkg/runtime/fake"
	"ecsd/pkg/spec"
)

func TestATaskRunsAndStops(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		task := newTask(ctr("app", "pause"))
		g.source.want(task)
		g.settle(time.Second)
		s := g.expect(task.ID, spec.StatusRunning)
		if s.StartedAt == nil || s.PullStoppedAt == nil || len(s.Containers) != 1 || s.Containers[0].PID == 0 || len(s.Containers[0].NetworkInterfaces) != 1 {
			t.Errorf("status of a running task lacks something: %+v", s)
		}
		if !g.rec.Ready() {
			t.Error("not ready")
		}
		g.source.drop(task.ID)
		g.settle(time.Second)
		s = g.expect(task.ID, spec.StatusStopped)
		if s.StopCode != spec.StopUserInitiated || codeOf(s, "app") != "0" || s.StoppedAt == nil || s.StoppingAt == nil {
			t.Errorf("status of a stopped task: %+v", s)
		}
		if left := g.rt.Left(); len(left) != 0 {
			t.Errorf("left on the machine: %v", left)
		}
		var path []string
		for _, s := range g.source.reported(task.ID) {
			if len(path) == 0 || path[len(path)-1] != s.LastStatus {
				path = append(path, s.LastStatus)
			}
		}
		if got := strings.Join(path, " "); got != "PENDING RUNNING STOPPING STOPPED" {
			t.Errorf("reported %s", got)
		}
	})
}

// From set to the first CreateContainer no call is made that is not needed.
func TestTheWayToAStartIsShort(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		g.settle(time.Second)
		before := len(g.rt.Calls())
		g.source.want(newTask(ctr("app", "pause")))
		g.settle(time.Second)
		var path []string
		for _, c := range g.rt.Calls()[before:] {
			path = append(path, c.Method)
			if c.Method == "StartContainer" {
				break
			}
		}
		got := strings.Join(path, " ")
		// While the image is being pulled there is time to look.
		if !regexp.MustCompile("^(CreateSandbox Pull|Pull CreateSandbox|CreateSandbox List Pull|CreateSandbox Pull List) CreateContainer StartContainer$").MatchString(got) {
			t.Errorf("calls up to the start: %s", got)
		}
	})
}

func TestGracefulStopTakesItsTimeoutThenKills(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		task := newTask(ctr("app", "ignore"))
		g.source.want(task)
		g.settle(time.Second)
		g.source.drop(task.ID)
		g.settle(29 * time.Second)
		g.expect(task.ID, spec.StatusStopping)
		if n := len(g.rt.Calls("KillContainer")); n != 0 {
			t.Errorf("killed %d times before its stop timeout", n)
		}
		g.settle(2 * time.Second)
		s := g.expect(task.ID, spec.StatusStopped)
		if codeOf(s, "app") != "137" {
			t.Errorf("exit code %s, want 137", codeOf(s, "app"))
		}
		if n := len(g.rt.Calls("StopContainer")); n != 1 {
			t.Errorf("signalled %d times, want once", n)
		}
	})
}

// An agent restarted in the middle of a graceful stop goes on counting.
func TestAgentRestartsDuringAStop(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		task := newTask(ctr("app", "ignore"))
		g.source.want(task)
		g.settle(time.Second)
		g.source.drop(task.ID)
		g.settle(10 * time.Second)
		g.halt()
		g.settle(10 * time.Second)
		g.boot()
		g.settle(9 * time.Second)
		g.expect(task.ID, spec.StatusStopping)
		g.settle(2 * time.Second)
		g.expect(task.ID, spec.StatusStopped)
		if n := len(g.rt.Calls("StopContainer")); n != 1 {
			t.Errorf("signalled %d times, want once", n)
		}
	})
}

func TestEventsAreOnlyHints(t *testing.T) {
	inBubble(t, func(_ *Config, rt *fake.Runtime) { rt.LoseEvents(true) }, func(g *rig) {
		task := newTask(ctr("init", "after 5s 0", nonEssential), ctr("app", "after 100s 3", after("init", "SUCCESS")))
		g.source.want(task)
		g.settle(40 * time.Second) // the exit of init is found by a resync
		g.expect(task.ID, spec.StatusRunning)
		g.settle(140 * time.Second)
		s := g.expect(task.ID, spec.StatusStopped)
		if s.StopCode != spec.StopEssentialContainerExited || codeOf(s, "app") != "3" {
			t.Errorf("ended as %s with code %s", s.StopCode, codeOf(s, "app"))
		}
		if left := g.rt.Left(); len(left) != 0 {
			t.Errorf("left on the machine: %v", left)
		}
	})
}

func TestAnEndedTaskNeverRunsAgain(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		task := newTask(ctr("job", "after 2s 0"))
		g.source.want(task)
		g.settle(5 * time.Second)
		g.expect(task.ID, spec.StatusStopped)
		starts := len(g.rt.Calls("StartContainer"))
		for range 2 {
			g.halt()
			g.boot() // the source still wants it
			g.settle(time.Minute)
			s := g.expect(task.ID, spec.StatusStopped)
			if codeOf(s, "job") != "0" {
				t.Errorf("its exit code became %s", codeOf(s, "job"))
			}
		}
		if n := len(g.rt.Calls("StartContainer")); n != starts {
			t.Errorf("started again: %d starts, want %d", n, starts)
		}
	})
}

func TestNoStrangersKilledBeforeEverySourceSpoke(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		task, other := newTask(ctr("app", "pause")), newTask(ctr("app", "pause"))
		g.source.want(task, other)
		g.settle(time.Second)
		g.halt()

		slow := newSource()
		slow.silent = true
		g.cfg.Sources = map[string]Source{"test": g.source, "slow": slow}
		g.source.tasks = map[string]spec.Task{task.ID: task}
		g.boot()
		g.settle(5 * time.Minute)
		g.expect(task.ID, spec.StatusRunning)
		if n := len(g.rt.Calls("StopContainer")); n != 0 {
			t.Fatalf("stopped %d containers although a source has not spoken", n)
		}
		slow.mu.Lock()
		slow.silent = false
		slow.push()
		slow.mu.Unlock()
		g.settle(time.Second)
		g.expect(task.ID, spec.StatusRunning)
		s := g.expect(other.ID, spec.StatusStopped)
		if s.Family != "fam" || codeOf(s, "app") != "0" {
			t.Errorf("a stranger was wound down as %+v", s)
		}
	})
}

func TestMachineFaultsAreRetriedWithBackOff(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		g.rt.Fail("StartContainer", 5, nil)
		task := newTask(ctr("app", "pause"))
		g.source.want(task)
		g.settle(500 * time.Millisecond)
		if n := len(g.rt.Calls("StartContainer")); n != 2 {
			t.Errorf("%d tries at once, want 2", n)
		}
		if v := g.view(task.ID); v.Failures != 2 || v.Retry <= 0 || !strings.Contains(v.LastErr, "StartContainer") {
			t.Errorf("view says failures %d, retry in %s, %q", v.Failures, v.Retry, v.LastErr)
		}
		g.settle(time.Minute)
		g.expect(task.ID, spec.StatusRunning)
		calls := g.rt.Calls("StartContainer")
		for i := 2; i < len(calls); i++ {
			gap, want := calls[i].At.Sub(calls[i-1].At), time.Second<<(i-2)
			if gap < want*8/10 || gap > want*12/10 {
				t.Errorf("try %d came %s after the one before, want about %s", i+1, gap, want)
			}
		}
		if v := g.view(task.ID); v.Failures != 0 || v.LastErr != "" {
			t.Errorf("after success view says failures %d, %q", v.Failures, v.LastErr)
		}
	})
}

func TestLostAnswersDoNoHarm(t *testing.T) {
	for _, method := range []string{"Pull", "CreateSandbox", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer", "RemoveSandbox"} {
		t.Run(method, func(t *testing.T) {
			inBubble(t, nil, func(g *rig) {
				g.rt.LoseAnswers(method, 2)
				task := newTask(ctr("app", "pause"))
				g.source.want(task)
				g.settle(10 * time.Second)
				s := g.expect(task.ID, spec.StatusRunning)
				if s.Containers[0].RestartCount != 0 {
					t.Errorf("restarted %d times", s.Containers[0].RestartCount)
				}
				g.source.drop(task.ID)
				g.settle(10 * time.Second)
				if s := g.expect(task.ID, spec.StatusStopped); codeOf(s, "app") != "0" {
					t.Errorf("exit code %s", codeOf(s, "app"))
				}
				if left := g.rt.Left(); len(left) != 0 {
					t.Errorf("left on the machine: %v", left)
				}
			})
		})
	}
}

func TestTheDefinitionsFaultEndsTheTask(t *testing.T) {
	for name, c := range map[string]struct {
		def    spec.ContainerDefinition
		reason string
	}{
		"image":      {ctr("app", "pause", func(c *spec.ContainerDefinition) { c.Image = "registry.test/missing" }), "CannotPullContainerError: "},
		"executable": {ctr("app", "", func(c *spec.ContainerDefinition) { c.EntryPoint = []string{"/nothing"} }), "CannotStartContainerError: "},
		"user":       {ctr("app", "pause", func(c *spec.ContainerDefinition) { c.User = "ghost" }), "CannotCreateContainerError: "},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(_ *Config, rt *fake.Runtime) { rt.NoImage("registry.test/missing") }, func(g *rig) {
				task := newTask(ctr("side", "pause"), c.def)
				g.source.want(task)
				g.settle(time.Minute)
				s := g.expect(task.ID, spec.StatusStopped)
				if s.StopCode != spec.StopTaskFailedToStart || s.StoppedReason != "Task failed to start" {
					t.Errorf("ended as %s, %q", s.StopCode, s.StoppedReason)
				}
				if got := s.Containers[1].Reason; !strings.HasPrefix(got, c.reason) {
					t.Errorf("reason is %q, want %s…", got, c.reason)
				}
				if left := g.rt.Left(); len(left) != 0 {
					t.Errorf("left on the machine: %v", left)
				}
			})
		})
	}
}

// A task whose shim was killed is not dead while its processes live.
func TestProofOfDeath(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		task := newTask(ctr("app", "stuck"))
		g.source.want(task)
		g.settle(time.Second)
		g.rt.Forget(task.ID)
		g.settle(20 * time.Second)
		s := g.expect(task.ID, spec.StatusStopping)
		if !strings.Contains(s.Waiting, "outlived") {
			t.Errorf("waits for %q", s.Waiting)
		}
		if len(g.rt.Calls("KillContainer")) == 0 {
			t.Error("what outlived its container was not killed")
		}
		g.rt.EndForgotten(task.ID)
		g.settle(2 * time.Second)
		s = g.expect(task.ID, spec.StatusStopped)
		if codeOf(s, "app") != "nil" || !strings.Contains(s.Containers[0].Reason, "unknown") {
			t.Errorf("exit code is %s, reason %q: want it unknown, and said so", codeOf(s, "app"), s.Containers[0].Reason)
		}
	})
}

func TestReboot(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		task := newTask(ctr("app", "pause"), ctr("side", "pause"))
		g.source.want(task)
		g.settle(time.Second)
		g.halt()
		g.rt.Reboot()
		g.boot()
		g.settle(time.Second)
		s := g.expect(task.ID, spec.StatusStopped)
		if codeOf(s, "app") != "nil" || s.StopCode != spec.StopEssentialContainerExited || !strings.Contains(s.Containers[0].Reason, "restarted") {
			t.Errorf("after a reboot: code %s, %s, %q", codeOf(s, "app"), s.StopCode, s.Containers[0].Reason)
		}
		if left := g.rt.Left(); len(left) != 0 {
			t.Errorf("left on the machine: %v", left)
		}
	})
}

func TestRestartPolicy(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		task := newTask(ctr("app", "pause"), ctr("worker", "after 90s 1", restarts(60)), ctr("short", "after 50s 1", nonEssential, restarts(60)))
		g.source.want(task)
		g.settle(200 * time.Second)
		s := g.expect(task.ID, spec.StatusRunning)
		if got := s.Containers[1].RestartCount; got != 2 {
			t.Errorf("worker was restarted %d times in 200 s, want 2", got)
		}
		if c := s.Containers[2]; c.RestartCount != 0 || c.LastStatus != spec.StatusStopped {
			t.Errorf("a run shorter than the period was restarted: %+v", c)
		}
		if n := len(g.happened(reasonRestart)); n != 2 {
			t.Errorf("%d restarts were told of, want 2", n)
		}
	})
}

func TestAdmissionHoldsUpOnlyWhatDoesNotFit(t *testing.T) {
	inBubble(t, func(c *Config, _ *fake.Runtime) { c.Host = Capacity{CPU: 2048, Memory: 200} }, func(g *rig) {
		mem := func(n int) func(*spec.ContainerDefinition) { return func(c *spec.ContainerDefinition) { c.Memory = n } }
		first, big, small := newTask(ctr("a", "ignore", mem(100))), newTask(ctr("a", "pause", mem(150))), newTask(ctr("a", "pause", mem(50)))
		g.source.want(first)
		g.settle(time.Second)
		g.source.want(big, small)
		g.settle(time.Second)
		g.expect(small.ID, spec.StatusRunning)
		s := g.expect(big.ID, spec.StatusPending)
		if !regexp.MustCompile("^needs (50|100) more MiB of memory: (100|150) of 200 are taken by fam$").MatchString(s.Waiting) {
			t.Errorf("waits for %q", s.Waiting)
		}
		g.source.drop(first.ID, small.ID)
		g.settle(20 * time.Second)
		g.expect(big.ID, spec.StatusPending) // held until the process is gone
		g.settle(12 * time.Second)
		g.expect(big.ID, spec.StatusRunning)
	})
}

func TestStaticPortsWait(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		old, next := newTask(ctr("a", "drain 5s", hostPort(8080))), newTask(ctr("a", "pause", hostPort(8080)))
		g.source.want(old)
		g.settle(time.Second)
		g.source.want(next)
		g.settle(time.Second)
		if s := g.expect(next.ID, spec.StatusPending); s.Waiting != "needs host port 8080/tcp, which fam holds" {
			t.Errorf("waits for %q", s.Waiting)
		}
		g.source.drop(old.ID)
		g.settle(6 * time.Second)
		g.expect(next.ID, spec.StatusRunning)
	})
}

// A pull that hangs keeps nobody from stopping, and no other task from running.
func TestAHungPullHoldsUpNothing(t *testing.T) {
	inBubble(t, func(_ *Config, rt *fake.Runtime) { rt.SetImage("slow.test/box", fake.Image{PullTime: 24 * time.Hour}) }, func(g *rig) {
		slow := func(c *spec.ContainerDefinition) { c.Image = "slow.test/box" }
		hung, fine := newTask(ctr("a", "pause", slow)), newTask(ctr("a", "pause"))
		g.source.want(hung, fine)
		g.settle(time.Second)
		g.expect(fine.ID, spec.StatusRunning)
		if s := g.expect(hung.ID, spec.StatusPending); !strings.Contains(s.Waiting, "slow.test/box") {
			t.Errorf("waits for %q", s.Waiting)
		}
		g.source.drop(hung.ID)
		g.settle(time.Second)
		g.expect(hung.ID, spec.StatusStopped)
	})
}

func TestPullsAreSharedAndEndAtTheirDeadline(t *testing.T) {
	inBubble(t, func(_ *Config, rt *fake.Runtime) { rt.SetImage("slow.test/box", fake.Image{PullTime: 3 * time.Hour}) }, func(g *rig) {
		slow := func(c *spec.ContainerDefinition) { c.Image = "slow.test/box" }
		one := newTask(ctr("a", "pause", slow), ctr("b", "pause", slow))
		g.source.want(one)
		g.settle(time.Hour)
		if n := len(g.rt.Calls("Pull")); n != 1 {
			t.Errorf("%d pulls, want 1 for both containers", n)
		}
		g.settle(time.Hour + time.Minute)
		if v := g.view(one.ID); !strings.Contains(v.LastErr, "longer than 2h") {
			t.Errorf("after the deadline the last error is %q", v.LastErr)
		}
	})
}

// A runtime that hangs for one task hangs neither views nor, for long, anything else.
func TestAHungRuntime(t *testing.T) {
	inBubble(t, nil, func(g *rig) {
		task := newTask(ctr("a", "pause"))
		g.source.want(task)
		g.settle(time.Second)
		release := g.rt.Hang("List")
		g.source.want(newTask(ctr("a", "pause")))
		g.settle(2 * time.Minute)
		g.expect(task.ID, spec.StatusRunning)
		if n := len(g.rec.Views()); n != 2 {
			t.Errorf("%d views, want 2", n)
		}
		release()
		g.settle(30 * time.Second)
		if !g.rec.Ready() {
			t.Error("not ready although the runtime answers again")
		}
	})
}

func TestAPanicFailsOnlyItsTask(t *testing.T) {
	inBubble(t, func(c *Config, _ *fake.Runtime) {
		c.Env = func(_, container string) map[string]string {
			if container == "bad" {
				panic("boom")
			}
			return nil
		}
	}, func(g *rig) {
		bad, good := newTask(ctr("bad", "pause")), newTask(ctr("good", "pause"))
		g.source.want(bad, good)
		g.settle(10 * time.Second)
		g.expect(good.ID, spec.StatusRunning)
		g.expect(bad.ID, spec.StatusPending)
		if len(g.happened(reasonPanic)) < 2 {
			t.Error("the panic was not told of, or not tried again")
		}
		if v := g.view(bad.ID); !strings.Contains(v.LastErr, "boom") {
			t.Errorf("last error is %q", v.LastErr)
		}
	})
}

func TestEndedTasksAreForgottenInTime(t *testing.T) {
	var mu sync.Mutex
	var forgotten []string
	forgot := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(forgotten)
	}
	inBubble(t, func(c *Config, _ *fake.Runtime) {
		c.Forget = func(id string) error {
			mu.Lock()
			defer mu.Unlock()
			forgotten = append(forgotten, id)
			return nil
		}
	}, func(g *rig) {
		task := newTask(ctr("job", "exit 4"))
		g.source.want(task)
		g.settle(time.Second)
		g.source.drop(task.ID)
		g.settle(2 * time.Hour)
		g.expect(task.ID, spec.StatusStopped)
		if len(forgot()) != 0 {
			t.Errorf("forgot %v after two hours, want after three", forgot())
		}
		g.settle(time.Hour + time.Minute)
		if _, there := g.rec.View(task.ID); there || len(forgot()) != 1 {
			t.Errorf("after three hours: in view %v, forgot %v", there, forgot())
		}
		if _, ended := g.cfg.Records.Ended(task.ID); !ended {
			t.Error("history lost its end")
		}
	})
}

// Whether an agent that starts hears of its tasks before or after it has looked at the
// machine, it finds what an earlier one began.
func TestTasksAreAdoptedWheneverTheirSourceSpeaks(t *testing.T) {
	for _, late := range []time.Duration{0, time.Minute} {
		inBubble(t, nil, func(g *rig) {
			task := newTask(ctr("app", "pause"))
			g.source.want(task)
			g.settle(time.Second)
			g.halt()
			if late > 0 {
				g.source.silent = true
			}
			calls := len(g.rt.Calls("StartContainer", "CreateContainer", "CreateSandbox", "Pull"))
			g.boot()
			g.settle(late)
			g.source.mu.Lock()
			g.source.silent = false
			g.source.push()
			g.source.mu.Unlock()
			g.settle(time.Second)
			g.expect(task.ID, spec.StatusRunning)
			if n := len(g.rt.Calls("StartContainer", "CreateContainer", "CreateSandbox", "Pull")); n != calls {
				t.Errorf("a running task was touched: %s", g.calls())
			}
		})
	}
}
