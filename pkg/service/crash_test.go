package service

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/spec"
)

// moment is what a crash would have left: the disk, and the tasks on the node.
type moment struct {
	what  string
	files map[string]string
	tasks []spec.Task // that the node has been given, as it was told
	ended map[string]bool
}

func (n *node) moment(what string) moment {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := moment{what: what, files: map[string]string{}, ended: map[string]bool{}}
	err := filepath.WalkDir(n.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return nil // half-written files of renameio come and go
		}
		data, err := os.ReadFile(path)
		if err == nil {
			m.files[strings.TrimPrefix(path, n.dir)] = string(data)
		}
		return nil
	})
	if err != nil {
		n.t.Error(err)
	}
	for id, t := range n.tasks {
		m.tasks = append(m.tasks, t.want)
		m.ended[id] = t.status.LastStatus == spec.StatusStopped
	}
	return m
}

// variants are the disks that a crash at this moment may leave: writes go side by side,
// so any of them may be the one that was not made.
func (m moment) variants(before moment) map[string]map[string]string {
	pick := func(tasks, services map[string]string) map[string]string {
		out := map[string]string{}
		for path, data := range tasks {
			if !strings.HasPrefix(path, "/services/") {
				out[path] = data
			}
		}
		for path, data := range services {
			if strings.HasPrefix(path, "/services/") {
				out[path] = data
			}
		}
		return out
	}
	return map[string]map[string]string{
		"all written":          m.files,
		"the record not yet":   pick(m.files, before.files),
		"the tasks not yet":    pick(before.files, m.files),
		"the record was lost":  pick(m.files, nil),
		"nothing of this step": before.files,
	}
}

// TestCrashes stops an agent at each moment of a deployment, a roll and a task's failure,
// and starts another one on what was left. It comes to the same end, no task that ran is
// forgotten, and none is made twice.
func TestCrashes(t *testing.T) {
	v1, v2 := web(def("web")), web(def("web", "v2"))
	var moments []moment
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.listen(func(what string) { moments = append(moments, n.moment(what)) })
		s := n.start(v1)
		wait(10 * time.Second)
		s.Set([]Desired{v2})
		wait(time.Second)
		if err := s.StopTask(n.liveIDs()[0], "x"); err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Second)
		n.steady(s, "web", "web:2", "web:2")
		n.listen(nil)
		n.stop()
		moments = append(moments, n.moment("end"))
	})
	if len(moments) < 20 {
		t.Fatalf("only %d moments", len(moments))
	}
	for i, m := range moments {
		before := m
		if i > 0 {
			before = moments[i-1]
		}
		variants := m.variants(before)
		for _, name := range slices.Sorted(maps.Keys(variants)) {
			if !givenAreThere(m, variants[name]) {
				continue // not a disk that this moment can leave: what was handed on is written
			}
			t.Run(fmt.Sprintf("%d %s, %s", i, strings.Fields(m.what)[0], name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { recoverFrom(t, m, variants[name], v2) })
			})
		}
	}
}

// stoppedOnDisk is in the task.json of a task that has been asked to stop.
const stoppedOnDisk = `"desiredStatus":"STOPPED"`

// givenAreThere reports whether each task that the node was given is on that disk.
func givenAreThere(m moment, files map[string]string) bool {
	for _, want := range m.tasks {
		data, ok := files["/tasks/"+want.ID+"/task.json"]
		if !ok || want.DesiredStatus == spec.StatusStopped && !strings.Contains(data, stoppedOnDisk) {
			return false
		}
		if _, ok := files["/tasks/"+want.ID+"/end.json"]; m.ended[want.ID] && !ok {
			return false
		}
	}
	return true
}

func recoverFrom(t *testing.T, m moment, files map[string]string, desired Desired) {
	n := newNode(t)
	for path, data := range files {
		if err := os.MkdirAll(filepath.Dir(n.dir+path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(n.dir+path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.config() // opens the records, so that tasks can end
	running := 0
	for _, want := range m.tasks {
		if m.ended[want.ID] {
			continue
		}
		asked := strings.Contains(files["/tasks/"+want.ID+"/task.json"], stoppedOnDisk)
		want.DesiredStatus = spec.StatusRunning
		n.mu.Lock()
		n.create(want)
		n.mu.Unlock()
		if !asked && isNew(want) {
			running++
		}
	}
	given := maps.Clone(n.tasks)
	wait(100 * time.Millisecond) // they run
	s := n.start()
	wait(time.Second)
	s.Set([]Desired{desired})
	for range 600 {
		wait(50 * time.Millisecond)
		if live := len(n.live("web")); live > 4 {
			t.Fatalf("%d tasks live at once, of 2 wanted at most 200 %%", live)
		}
	}
	live := n.live("web")
	if len(live) != 2 || live[0] != live[1] {
		t.Fatalf("live in the end: %v\n%s", live, strings.Join(n.trailed(), "\n"))
	}
	for _, id := range n.liveIDs() {
		if w := n.tasks[id].want; !isNew(w) {
			t.Errorf("what runs in the end is not what was asked for: %v", w.Definition.ContainerDefinitions[0].Command)
		}
	}
	// Tasks of the new definition that ran are kept: only what was missing is made.
	made := 0
	for id, task := range n.tasks {
		if given[id] == nil && isNew(task.want) {
			made++
		}
	}
	if made != max(0, 2-running) {
		t.Errorf("%d tasks of the new definition were made although %d of them ran\n%s", made, running, strings.Join(n.trailed(), "\n"))
	}
	for _, st := range s.List() {
		if len(st.Deployments) != 1 || st.Deployments[0].RolloutState != spec.RolloutCompleted {
			t.Errorf("in the end: %+v", st)
		}
	}
	n.stop()
}

// isNew reports whether the task is of the definition that the crashed agent went to.
func isNew(t spec.Task) bool {
	return slices.Contains(t.Definition.ContainerDefinitions[0].Command, "v2")
}

// failing is a disk that takes no task while full.
type failing struct {
	hooked
	full *atomic.Bool
}

func (f failing) SaveTask(t spec.Task) error {
	if f.full.Load() {
		return errors.New("no space left on device")
	}
	return f.hooked.SaveTask(t)
}

// TestDiskFull: a task that cannot be written is not started, and is later; one that is to
// stop is stopped nevertheless.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c := n.config()
		var full atomic.Bool
		full.Store(true)
		c.Records = failing{c.Records.(hooked), &full}
		s := n.startWith(c, web(def("web")))
		wait(10 * time.Second)
		if n.made != 0 {
			t.Errorf("%d tasks were made without a record", n.made)
		}
		if _, err := s.RunTask(def("once")); err == nil {
			t.Error("a task was run without a record")
		}
		full.Store(false)
		wait(10 * time.Second)
		n.steady(s, "web", "web:1", "web:1")
		n.stop()
	})
}

// TestBalancerFails: nobody is stopped while the ports cannot be led away from him, but
// not for ever.
func TestBalancerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		s := n.start(web(def("web")))
		wait(10 * time.Second)
		n.mu.Lock()
		n.broken = true
		n.mu.Unlock()
		s.Set([]Desired{web(def("web", "v2"))})
		wait(publishPatience)
		if got := n.live("web"); !slices.Equal(got, []string{"web:1", "web:1", "web:2", "web:2"}) {
			t.Errorf("while the ports cannot be set: %v", got)
		}
		n.mu.Lock()
		n.broken = false
		n.mu.Unlock()
		wait(20 * time.Second)
		n.steady(s, "web", "web:2", "web:2")

		n.mu.Lock()
		n.broken = true
		n.mu.Unlock()
		s.Set([]Desired{web(def("web", "v3"))})
		wait(time.Minute)
		n.steady(s, "web", "web:3", "web:3")
		n.mu.Lock()
		n.broken = false
		n.mu.Unlock()
		wait(10 * time.Second)
		if len(n.serving("web")) != 2 {
			t.Errorf("behind the port in the end: %v", n.serving("web"))
		}
		n.stop()
	})
}

// TestHolds holds our reading of a refusal against reconcile.Admit, which words it.
func TestHolds(t *testing.T) {
	task := func(id string, cpu, memory, port int) spec.Task {
		return spec.Task{ID: id, Family: "f", Definition: spec.TaskDefinition{
			NetworkMode: "bridge",
			ContainerDefinitions: []spec.ContainerDefinition{{
				Name: "c", CPU: cpu, Memory: memory,
				PortMappings: []spec.PortMapping{{ContainerPort: 80, HostPort: port, Protocol: "tcp"}},
			}},
		}}
	}
	host := reconcile.Capacity{CPU: 1024, Memory: 1000}
	for name, c := range map[string]struct {
		old, new, stranger spec.Task
		want               bool
	}{
		"the same port":             {task("a", 0, 10, 8080), task("b", 0, 10, 8080), task("c", 0, 10, 0), true},
		"a port that begins alike":  {task("a", 0, 10, 808), task("b", 0, 10, 8080), task("c", 0, 10, 8080), false},
		"a stranger's port":         {task("a", 0, 10, 0), task("b", 0, 10, 8080), task("c", 0, 10, 8080), false},
		"memory":                    {task("a", 0, 600, 0), task("b", 0, 600, 0), task("c", 0, 10, 0), true},
		"memory that none has":      {task("a", 0, 0, 0), task("b", 0, 600, 0), task("c", 0, 600, 0), false},
		"CPU":                       {task("a", 1000, 10, 0), task("b", 1000, 10, 0), task("c", 0, 10, 0), true},
		"CPU, of which it has none": {task("a", 0, 10, 0), task("b", 1000, 10, 0), task("c", 1000, 10, 0), false},
		"more than there is":        {task("a", 0, 600, 0), task("b", 0, 6000, 0), task("c", 0, 10, 0), false},
	} {
		blocked := reconcile.Admit(host, []reconcile.Claim{reconcile.ClaimOf(c.old), reconcile.ClaimOf(c.stranger)}, reconcile.ClaimOf(c.new))
		if blocked == "" {
			t.Errorf("%s: it fits", name)
		}
		if got := holds(blocked, c.old); got != c.want {
			t.Errorf("%s: %v, want %v, for %q", name, got, c.want, blocked)
		}
	}
}
