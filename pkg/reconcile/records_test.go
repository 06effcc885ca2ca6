package reconcile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecsd/pkg/spec"
)

func testID(n int) string { return fmt.Sprintf("%032x", n) }

// fixed is a clock that stands still until it is moved.
type fixed struct{ at spec.Time }

func (f *fixed) now() spec.Time { return f.at }

func openRecords(t *testing.T, dir string, clock *fixed) *Records {
	t.Helper()
	r, err := OpenRecords(dir, clock.now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newClock() *fixed {
	return &fixed{spec.Time{Boot: "b", At: time.Hour, Wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
}

func TestRecordsSurviveAReopen(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	r := openRecords(t, dir, clock)
	want := spec.Task{ID: testID(1), Family: "web", Slot: 2, DesiredStatus: spec.StatusRunning}
	if err := r.SaveTask(want); err != nil {
		t.Fatal(err)
	}
	if err := r.SaveTask(spec.Task{ID: testID(2), Family: "job"}); err != nil {
		t.Fatal(err)
	}
	code := 3
	end := spec.TaskStatus{TaskID: testID(2), Family: "job", LastStatus: spec.StatusStopped,
		Containers: []spec.ContainerStatus{{Name: "a", ExitCode: &code}}}
	if err := r.End(end); err != nil {
		t.Fatal(err)
	}
	if err := r.End(spec.TaskStatus{TaskID: testID(2), StoppedReason: "another story"}); err != nil {
		t.Fatal(err)
	}

	r = openRecords(t, dir, clock)
	tasks, err := r.LoadTasks()
	if err != nil || len(tasks) != 2 || tasks[0].ID != want.ID || tasks[0].Slot != 2 {
		t.Errorf("loaded %+v, %v", tasks, err)
	}
	if _, ok := r.Ended(testID(1)); ok {
		t.Error("task 1 is said to have ended")
	}
	got, ok := r.Ended(testID(2))
	if !ok || *got.Containers[0].ExitCode != 3 || got.StoppedReason != "" {
		t.Errorf("end of task 2 is %+v, %v; want the first one written", got, ok)
	}
	for _, name := range []string{"tasks/" + testID(1) + "/task.json", "tasks/" + testID(2) + "/end.json", "history.jsonl"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info, err)
		}
	}

	// Removed, it is still known to have ended: it must not run again.
	for range 2 {
		if err := r.Remove(testID(2)); err != nil {
			t.Fatal(err)
		}
	}
	r = openRecords(t, dir, clock)
	if _, ok := r.Ended(testID(2)); !ok {
		t.Error("history forgot the end of task 2")
	}
	if ends := r.Ends(); len(ends) != 0 {
		t.Errorf("ends with a directory are %+v, want none", ends)
	}
}

func TestRecordsRefuseNewerAndPassOverBroken(t *testing.T) {
	for name, c := range map[string]struct {
		file, content string
		newer         bool
	}{
		"newer task":     {"tasks/" + testID(1) + "/task.json", `{"version":2,"task":{}}`, true},
		"newer end":      {"tasks/" + testID(1) + "/end.json", `{"version":2}`, true},
		"newer history":  {"history.jsonl", `{"version":9}` + "\n", true},
		"truncated task": {"tasks/" + testID(1) + "/task.json", `{"version":1,"task":{"id"`, false},
		"empty task":     {"tasks/" + testID(1) + "/task.json", ``, false},
		"no version":     {"tasks/" + testID(1) + "/task.json", `{"task":{}}`, false},
		"torn history":   {"history.jsonl", `{"version":1,"at":{},"sta`, false},
		"broken end":     {"tasks/" + testID(1) + "/end.json", `null`, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, clock := t.TempDir(), newClock()
			if err := openRecords(t, dir, clock).SaveTask(spec.Task{ID: testID(2), Family: "web"}); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, c.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := OpenRecords(dir, clock.now)
			if c.newer {
				if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), file) {
					t.Fatalf("error is %v, want ErrNewer that names %s", err, file)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tasks, err := r.LoadTasks()
			if len(tasks) != 1 || tasks[0].ID != testID(2) {
				t.Errorf("loaded %+v, want the one good task", tasks)
			}
			if broken := strings.HasSuffix(c.file, "task.json"); broken != (err != nil) || broken && !strings.Contains(err.Error(), file) {
				t.Errorf("error is %v, want it to name the broken file and nothing else", err)
			}
			if err := r.End(spec.TaskStatus{TaskID: testID(2), Family: "web"}); err != nil {
				t.Fatal(err)
			}
			if r = openRecords(t, dir, clock); len(r.History()) != 1 {
				t.Errorf("history is %+v, want the one end", r.History())
			}
		})
	}
}

func TestRecordsTakeNoPathForAnID(t *testing.T) {
	r := openRecords(t, t.TempDir(), newClock())
	for _, id := range []string{"", "..", "../../etc", strings.Repeat("A", 32), testID(1) + "0"} {
		if r.SaveTask(spec.Task{ID: id}) == nil || r.Remove(id) == nil {
			t.Errorf("id %q was accepted", id)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	r := openRecords(t, dir, clock)
	for i := range 500 {
		clock.at = clock.at.Add(time.Minute)
		family := "loop"
		if i == 0 {
			family = "rare"
		}
		if err := r.End(spec.TaskStatus{TaskID: testID(i), Family: family}); err != nil {
			t.Fatal(err)
		}
		if err := r.Remove(testID(i)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(r *Records) {
		t.Helper()
		h := r.History()
		if len(h) != historyPerFamily+1 || h[0].Status.Family != "rare" || h[len(h)-1].Status.TaskID != testID(499) {
			t.Errorf("history holds %d ends, want the newest %d of the loop and the rare one", len(h), historyPerFamily)
		}
	}
	check(r)
	b, err := os.ReadFile(filepath.Join(dir, "history.jsonl"))
	if err != nil || strings.Count(string(b), "version") > 3*historyPerFamily {
		t.Errorf("the file has %d lines (%v), want it bounded", strings.Count(string(b), "version"), err)
	}
	if n := len(r.ended); n > 4*historyPerFamily {
		t.Errorf("%d ends are held in memory, want it bounded", n)
	}
	if _, ok := r.Ended(testID(0)); !ok {
		t.Error("the rare family's end was pushed out by another family's")
	}
	clock.at = clock.at.Add(8 * 24 * time.Hour)
	if err := r.End(spec.TaskStatus{TaskID: testID(1000), Family: "new"}); err != nil {
		t.Fatal(err)
	}
	if h := r.History(); len(h) != 1 {
		t.Errorf("after a week history holds %d ends, want 1", len(h))
	}
}
