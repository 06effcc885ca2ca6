package service

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

func TestRollUnderAPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web")))
		wait(10 * time.Second)
		st := n.steady(s, "web", "web:1", "web:1")
		if st.DesiredCount != 2 || st.Status != spec.ServiceActive || st.File != "web.yaml" ||
			st.TaskDefinition != "arn:aws:ecs:local:000000000000:task-definition/web:1" {
			t.Errorf("status: %+v", st)
		}
		want := []string{
			"event (service web) (deployment ID) deployment of web:1 in progress.",
			"event (service web) has started 2 tasks: (task ID) (task ID).",
			"make web:1", "make web:1",
			"web:1 is RUNNING UNKNOWN", "ports 80→1 tasks", "web:1 is RUNNING UNKNOWN", "ports 80→2 tasks",
			"event (service web) (deployment ID) deployment completed.",
			"event (service web) has reached a steady state.",
		}
		if got := n.trailed(); len(got) < 8 || !slices.Equal(anonymous(got)[:4], want[:4]) || !slices.Equal(anonymous(got)[len(got)-2:], want[8:]) {
			t.Errorf("first deployment:\n%s", strings.Join(got, "\n"))
		}
		if len(n.serving("web")) != 2 {
			t.Errorf("behind the port: %v", n.serving("web"))
		}

		s.Set([]Desired{web(def("web", "v2"))})
		for range 200 { // a look every 50 ms
			wait(50 * time.Millisecond)
			if got := len(n.serving("web")); got < 2 {
				t.Fatalf("%d tasks behind the port in the middle of a roll", got)
			}
		}
		n.steady(s, "web", "web:2", "web:2")
		trail := anonymous(n.trailed())
		drained := slices.Index(trail, "event (service web) has begun draining connections on 2 tasks.")
		stopped := slices.Index(trail, "stop web:1")
		if drained < 0 || stopped < drained {
			t.Errorf("no drain before the stop:\n%s", strings.Join(trail, "\n"))
		}
		n.stop()
	})
}

// anonymous replaces random ids.
func anonymous(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		w := strings.FieldsFunc(l, func(r rune) bool { return r == ' ' })
		for j := range w {
			bare := strings.Trim(w[j], "().")
			if len(bare) == 32 || strings.HasPrefix(bare, "ecs-svc/") {
				w[j] = strings.Replace(w[j], bare, "ID", 1)
			}
		}
		out[i] = strings.Join(w, " ")
	}
	return out
}

// TestOnlyADefinitionIsADeployment: the same set again is nothing, another count scales.
func TestOnlyADefinitionIsADeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web")))
		wait(10 * time.Second)
		ids, sets := n.liveIDs(), n.sets
		s.Set([]Desired{web(def("web"))})
		wait(10 * time.Second)
		if !slices.Equal(ids, n.liveIDs()) || n.sets != sets {
			t.Error("the same set again has changed something")
		}
		first := n.steady(s, "web", "web:1", "web:1").Deployments[0].ID
		s.Set([]Desired{web(def("web"), count(3))})
		wait(10 * time.Second)
		if st := n.steady(s, "web", "web:1", "web:1", "web:1"); st.Deployments[0].ID != first {
			t.Error("desiredCount alone has started a deployment")
		}
		s.Set([]Desired{web(def("web"), count(1))})
		wait(10 * time.Second)
		n.steady(s, "web", "web:1")
		if left := n.liveIDs(); !slices.Contains(ids, left[0]) {
			t.Error("the oldest task is not the one that is left")
		}
		n.stop()
	})
}

func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web")))
		wait(10 * time.Second)
		s.Set([]Desired{})
		wait(50 * time.Millisecond)
		if st := s.List(); len(st) != 1 || st[0].Status != spec.ServiceDraining || !strings.Contains(st[0].Waiting, "being removed") {
			t.Errorf("while it goes: %+v", st)
		}
		wait(10 * time.Second)
		if len(n.live("web")) != 0 || len(s.List()) != 0 || len(n.ports["web"]) != 0 {
			t.Errorf("left: %v %v %v", n.live("web"), s.List(), n.ports["web"])
		}
		if files, _ := filepath.Glob(filepath.Join(n.dir, "services", "*")); len(files) != 0 {
			t.Errorf("left on disk: %v", files)
		}
		for _, task := range n.tasks {
			if task.want.StopCode != spec.StopServiceSchedulerInitiated {
				t.Errorf("stop code %q", task.want.StopCode)
			}
		}
		// It comes back as if it had never been there.
		s.Set([]Desired{web(def("web"))})
		wait(10 * time.Second)
		n.steady(s, "web", "web:1", "web:1")
		n.stop()
	})
}

// TestRestartOfTheAgent: nothing happens to tasks, and ports lead to them before anything
// is known of them; a HEALTHY task stays in service until its checks say otherwise.
func TestRestartOfTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start(web(def("web", "healthy=1s")))
		wait(10 * time.Second)
		ids := n.liveIDs()
		n.stop()
		for _, task := range n.tasks {
			task.status.HealthStatus = spec.HealthUnknown // the checks begin anew
		}
		n.trailed()
		n.ports = map[string][]runtime.ServicePort{}
		s := n.start() // the manifests are not read yet
		wait(time.Minute)
		if trail := n.trailed(); len(trail) != 1 || trail[0] != "ports 80→2 tasks" {
			t.Errorf("a restart is to set the ports and nothing else:\n%s", strings.Join(trail, "\n"))
		}
		s.Set([]Desired{web(def("web", "healthy=1s"))})
		wait(time.Minute)
		n.steady(s, "web", "web:1", "web:1")
		if !slices.Equal(ids, n.liveIDs()) {
			t.Error("tasks were replaced")
		}
		n.stop()
	})
}

// TestSilence: without records and before a first Set nothing is known, so nothing is said.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start()
		s.Report(spec.TaskStatus{TaskID: "of somebody else", Service: "theirs"})
		wait(time.Hour)
		if n.sets != 0 {
			t.Error("set was called")
		}
		s.Set([]Desired{})
		wait(time.Second)
		if n.sets != 1 {
			t.Errorf("an empty set is a set: called %d times", n.sets)
		}
		n.stop()
		if err := s.Restart("web"); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestOneOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start([]Desired{}...)
		s.Set([]Desired{})
		short, err := s.RunTask(def("short", "end=5s"))
		if err != nil {
			t.Fatal(err)
		}
		long, err := s.RunTask(def("long"))
		if err != nil || len(long) != 32 {
			t.Fatal(long, err)
		}
		wait(time.Second)
		if n.tasks[short].want.Group != "family:short" || n.tasks[short].want.Slot != 1 {
			t.Errorf("made as %+v", n.tasks[short].want)
		}
		n.stop()
		wait(time.Minute) // one ends while no agent runs
		s = n.start()
		wait(time.Minute)
		if got := n.liveIDs(); !slices.Equal(got, []string{long}) || n.made != 2 {
			t.Errorf("live: %v, made %d", got, n.made)
		}
		if err := s.StopTask(long, "enough"); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		if len(n.liveIDs()) != 0 || n.tasks[long].want.StopCode != spec.StopUserInitiated || n.tasks[long].want.StoppedReason != "enough" {
			t.Errorf("stopped as %+v", n.tasks[long].want)
		}
		if err := s.StopTask(long, "again"); err != nil {
			t.Errorf("stopping what has ended: %v", err)
		}
		if err := s.StopTask(strings.Repeat("0", 32), ""); !errdefs.IsNotFound(err) {
			t.Errorf("stopping what never was: %v", err)
		}
		n.stop()
	})
}

func TestStopTaskOfAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web")))
		wait(10 * time.Second)
		id := n.liveIDs()[0]
		if err := s.StopTask(id, "Task stopped by user"); err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Second)
		st := n.steady(s, "web", "web:1", "web:1")
		if slices.Contains(n.liveIDs(), id) || n.tasks[id].want.StopCode != spec.StopUserInitiated {
			t.Error("it has not been replaced")
		}
		if st.Deployments[0].FailedTasks != 0 {
			t.Error("what a user stops has not failed")
		}
		n.stop()
	})
}

func TestRestartAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web")))
		wait(10 * time.Second)
		before, ids := n.steady(s, "web", "web:1", "web:1").Deployments[0].ID, n.liveIDs()
		if err := s.Restart("web"); err != nil {
			t.Fatal(err)
		}
		wait(20 * time.Second)
		st := n.steady(s, "web", "web:1", "web:1")
		if st.Deployments[0].ID == before {
			t.Error("no new deployment")
		}
		for _, id := range n.liveIDs() {
			if slices.Contains(ids, id) {
				t.Errorf("task %s was not replaced", id)
			}
			if n.tasks[id].want.Images != nil {
				t.Error("images are not resolved anew")
			}
		}
		if err := s.Restart("nobody"); !errdefs.IsNotFound(err) {
			t.Errorf("unknown service: %v", err)
		}
		n.stop()
	})
}

// TestImagesArePinned: a later task of a deployment runs what its first resolved.
func TestImagesArePinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		free := def("free")
		free.ContainerDefinitions[0].VersionConsistency = "disabled"
		n.start(web(def("web")), Desired{Name: "free", Service: ForDefinition(free), Definition: free})
		wait(10 * time.Second)
		n.stop()
		s := n.start()
		for _, id := range n.liveIDs() {
			if err := s.StopTask(id, "x"); err != nil {
				t.Fatal(err)
			}
		}
		wait(10 * time.Second)
		for _, id := range n.liveIDs() {
			w := n.tasks[id].want
			if got, pinned := w.Images["main"]; pinned != (w.Service == "web") || pinned && got != "sha256:image" {
				t.Errorf("%s: images %v", w.Service, w.Images)
			}
		}
		n.stop()
	})
}

// TestStaticPort: a bare definition with a host port rolls with a gap, but only when the
// new task has been refused the port.
func TestStaticPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { staticPort(t, false) })
	synctest.Test(t, func(t *testing.T) { staticPort(t, true) })
}

func staticPort(t *testing.T, terse bool) {
	n := newNode(t)
	n.terse = terse
	td := func(v string) Desired {
		d := def("solo", v)
		d.ContainerDefinitions[0].PortMappings[0].HostPort = 8080
		return Desired{Name: "solo", Service: ForDefinition(d), Definition: d}
	}
	s := n.start(td("v1"))
	wait(10 * time.Second)
	n.trailed()
	s.Set([]Desired{td("v2")})
	wait(10 * time.Second)
	n.steady(s, "solo", "solo:2")
	trail := anonymous(n.trailed())
	made, stopped := slices.Index(trail, "make solo:2"), slices.Index(trail, "stop solo:1")
	if made < 0 || stopped < made {
		t.Errorf("old task gone before the new one wanted its port:\n%s", strings.Join(trail, "\n"))
	}
	n.stop()
}

// TestRollback is remembered: by the agent after a restart, and against the manifest that
// still asks for what has failed.
func TestRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web"), count(1), breaker(true)))
		wait(time.Minute)
		n.steady(s, "web", "web:1")
		bad := web(def("web", "end=500ms"), count(1), breaker(true))
		s.Set([]Desired{bad})
		wait(700 * time.Millisecond)
		n.stop() // after the first failure
		s = n.start(bad)
		wait(2 * time.Minute)
		st := n.steady(s, "web", "web:1")
		failures := 0
		for _, task := range n.tasks {
			if task.want.Revision == 2 {
				failures++
			}
		}
		if failures != 3 {
			t.Errorf("%d tasks were tried, want the threshold of 3", failures)
		}
		if !slices.ContainsFunc(st.Events, func(e spec.ServiceEvent) bool { return strings.Contains(e.Message, "rolling back to deployment") }) {
			t.Errorf("events do not tell: %+v", st.Events)
		}
		n.stop()
		s = n.start(bad)
		wait(time.Hour)
		n.steady(s, "web", "web:1")
		if n.made != 1+3 {
			t.Errorf("a definition that has failed was tried again: %d tasks made", n.made)
		}
		// Asked for explicitly it is.
		if err := s.Restart("web"); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		if n.made != 1+3+3 {
			t.Errorf("%d tasks made", n.made)
		}
		n.steady(s, "web", "web:1")
		n.stop()
	})
}

// TestRevert: going back in the middle of a roll keeps the tasks that are still there.
func TestRevert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web")))
		wait(10 * time.Second)
		ids := n.liveIDs()
		s.Set([]Desired{web(def("web", "up=1h"))})
		wait(10 * time.Second)
		s.Set([]Desired{web(def("web"))})
		wait(10 * time.Second)
		n.steady(s, "web", "web:1", "web:1")
		if !slices.Equal(ids, n.liveIDs()) {
			t.Error("tasks were replaced for nothing")
		}
		s.Set([]Desired{web(def("web", "v3"))})
		wait(20 * time.Second)
		n.steady(s, "web", "web:3", "web:3")
		n.stop()
	})
}

// TestBackoff: a crash loop comes to one task a minute.
func TestBackoffOfACrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web", "end=100ms"), count(1)))
		wait(time.Hour)
		if n.made < 60 || n.made > 75 {
			t.Errorf("%d tasks made in an hour", n.made)
		}
		if st := s.List()[0]; !strings.Contains(st.Waiting, "failed in a row") {
			t.Errorf("waiting: %q", st.Waiting)
		}
		wait(2 * time.Hour)
		if len(s.List()[0].Events) != maxEvents {
			t.Errorf("%d events are kept", len(s.List()[0].Events))
		}
		n.stop()
	})
}

func TestRecordsOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web")))
		wait(10 * time.Second)
		st := n.steady(s, "web", "web:1", "web:1")
		n.stop()
		file := filepath.Join(n.dir, "services", "web.json")
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info.Mode(), err)
		}
		good, _ := os.ReadFile(file)

		// A newer one is refused by name.
		if err := os.WriteFile(file, []byte(`{"version": 2, "what": "ever"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(n.config()); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "newer") {
			t.Errorf("newer record: %v", err)
		}

		// One that cannot be read, or is lost, costs history and no task.
		for _, content := range []string{"", "{", `{"version":1}`, string(good[:len(good)/2])} {
			ids := n.liveIDs()
			if content == "" {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, []byte(content), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			s = n.start()
			wait(time.Minute)
			s.Set([]Desired{web(def("web"))})
			wait(time.Minute)
			got := n.steady(s, "web", "web:1", "web:1")
			if !slices.Equal(ids, n.liveIDs()) || got.Deployments[0].ID != st.Deployments[0].ID {
				t.Errorf("with record %q tasks were replaced", content)
			}
			n.stop()
		}
	})
}
