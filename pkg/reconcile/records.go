package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/renameio/v2"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// recordVersion is the version of every file Records writes.
const recordVersion = 1

// ErrNewer is what reading a file fails with that a newer ecsd has written.
var ErrNewer = errors.New("written by a newer ecsd")

// Records is what ecsd keeps on disk of tasks: what was asked and how it ended. What runs
// is not in it; that is read back from the runtime.
//
//	<dir>/tasks/<id>/task.json   the whole spec.Task, written before the task is wanted
//	<dir>/tasks/<id>/end.json    its last status, written the moment it has ended
//	<dir>/history.jsonl          the last status of ended tasks, one a line, bounded
//
// Files are written atomically with mode 0600 and carry a version. One that a newer ecsd
// wrote is refused by name; one that cannot be read is reported and passed over: a lost
// file loses history, never a running task.
//
// Methods may be called from many goroutines.
type Records struct {
	dir string
	now func() spec.Time

	mu      sync.Mutex // guards what follows, and history.jsonl
	ended   map[string]End
	history history
}

// End is how a task ended, and when that was written down.
type End struct {
	At     spec.Time       `json:"at"`
	Status spec.TaskStatus `json:"status"`
}

type taskFile struct {
	Version int       `json:"version"`
	Task    spec.Task `json:"task"`
}

type endFile struct {
	Version int `json:"version"`
	End
}

// OpenRecords opens the records under dir and makes the directory when there is none.
// now is the clock; nil means runtime.Now. It fails when a file there was written by a
// newer ecsd, because to go on without it would be to forget tasks.
func OpenRecords(dir string, now func() spec.Time) (*Records, error) {
	if now == nil {
		now = runtime.Now
	}
	r := &Records{dir: dir, now: now, ended: map[string]End{}}
	if err := os.MkdirAll(r.tasks(), 0o700); err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	if err := r.history.load(r.historyPath()); err != nil {
		return nil, err
	}
	for _, e := range r.history.lines {
		r.ended[e.Status.TaskID] = e
	}
	ids, err := r.ids()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		var f endFile
		err := read(r.path(id, "end.json"), &f, func() int { return f.Version })
		switch {
		case err == nil:
			r.ended[id] = f.End
		case errors.Is(err, ErrNewer):
			return nil, err
		}
		var t taskFile
		if err := read(r.path(id, "task.json"), &t, func() int { return t.Version }); errors.Is(err, ErrNewer) {
			return nil, err
		}
	}
	return r, nil
}

func (r *Records) tasks() string               { return filepath.Join(r.dir, "tasks") }
func (r *Records) path(id, name string) string { return filepath.Join(r.tasks(), id, name) }
func (r *Records) historyPath() string         { return filepath.Join(r.dir, "history.jsonl") }

// Dir is the directory of one task's files.
func (r *Records) Dir(id string) string { return filepath.Join(r.tasks(), id) }

// ids lists the tasks that have a directory.
func (r *Records) ids() ([]string, error) {
	entries, err := os.ReadDir(r.tasks())
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && validID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// validID reports whether id has the form of a task id, and so is safe as a file's name.
func validID(id string) bool {
	if len(id) != 32 {
		return false
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// SaveTask writes task.json. Called again it replaces the file.
func (r *Records) SaveTask(t spec.Task) error {
	if err := r.write(t.ID, "task.json", taskFile{recordVersion, t}); err != nil {
		return fmt.Errorf("save task %s: %w", t.ID, err)
	}
	return nil
}

func (r *Records) write(id, name string, v any) error {
	if !validID(id) {
		return fmt.Errorf("task id %q is not 32 lower-case hex digits", id)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.Dir(id), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(r.path(id, name), b, 0o600)
}

// Task reads one task.json. The error wraps fs.ErrNotExist when there is none.
func (r *Records) Task(id string) (spec.Task, error) {
	if !validID(id) {
		return spec.Task{}, fmt.Errorf("task id %q is not 32 lower-case hex digits: %w", id, fs.ErrNotExist)
	}
	var f taskFile
	if err := read(r.path(id, "task.json"), &f, func() int { return f.Version }); err != nil {
		return spec.Task{}, err
	}
	if f.Task.ID != id {
		return spec.Task{}, fmt.Errorf("%s: it is the record of task %q; move it away", r.path(id, "task.json"), f.Task.ID)
	}
	return f.Task, nil
}

// LoadTasks reads all task.json, those of ended tasks too (see Ended), sorted by id.
// Files that cannot be read are passed over and named in the error, which comes beside
// the tasks that could.
func (r *Records) LoadTasks() ([]spec.Task, error) {
	ids, err := r.ids()
	if err != nil {
		return nil, err
	}
	var out []spec.Task
	var errs []error
	for _, id := range ids {
		t, err := r.Task(id)
		switch {
		case err == nil:
			out = append(out, t)
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// read decodes one file and checks its version.
func read(path string, into any, version func() int) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := decode(b, into, version); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func decode(b []byte, into any, version func() int) error {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("unreadable (%w); what it said is lost", err)
	}
	if head.Version > recordVersion {
		return fmt.Errorf("version %d, this one knows %d: %w; upgrade ecsd or move the file away", head.Version, recordVersion, ErrNewer)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("unreadable (%w); what it said is lost", err)
	}
	if version() != recordVersion {
		return fmt.Errorf("unreadable (it carries no version); what it said is lost")
	}
	return nil
}

// End writes down how a task ended. From then on the task is never run again, whatever
// the machine and its agents go through. The first end counts: called again it does
// nothing.
func (r *Records) End(status spec.TaskStatus) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, done := r.ended[status.TaskID]; done {
		return nil
	}
	e := End{At: r.now(), Status: status}
	if err := r.write(status.TaskID, "end.json", endFile{recordVersion, e}); err != nil {
		return fmt.Errorf("record the end of task %s: %w", status.TaskID, err)
	}
	r.ended[status.TaskID] = e
	if err := r.history.add(r.historyPath(), e, r.now()); err != nil {
		return fmt.Errorf("record the end of task %s: %w", status.TaskID, err)
	}
	r.trim()
	return nil
}

// trim drops ends that neither history nor a directory holds. r.mu is held.
func (r *Records) trim() {
	if len(r.ended) < 2*len(r.history.lines)+historyPerFamily {
		return
	}
	for id := range r.ended {
		if _, err := os.Stat(r.Dir(id)); errors.Is(err, fs.ErrNotExist) && !r.history.has(id) {
			delete(r.ended, id)
		}
	}
}

// Ended returns the last status of a task that has ended, as far back as history goes.
func (r *Records) Ended(id string) (spec.TaskStatus, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.ended[id]
	return e.Status, ok
}

// Ends lists the ended tasks that still have a directory, oldest first.
func (r *Records) Ends() []End {
	ids, err := r.ids()
	if err != nil {
		return nil // nothing can be removed where nothing can be listed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []End
	for _, id := range ids {
		if e, ok := r.ended[id]; ok {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b End) int { return a.At.Wall.Compare(b.At.Wall) })
	return out
}

// History lists the ended tasks that are remembered, oldest first.
func (r *Records) History() []End {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.history.lines)
}

// Remove removes a task's directory. What history knows of it stays. Removing what is
// not there is nil.
func (r *Records) Remove(id string) error {
	if !validID(id) {
		return fmt.Errorf("remove record: task id %q is not 32 lower-case hex digits", id)
	}
	// task.json goes first: a directory with it alone would be a task that is yet to run.
	for _, name := range []string{"task.json", "end.json"} {
		if err := os.Remove(r.path(id, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove record: %w", err)
		}
	}
	if err := os.RemoveAll(r.Dir(id)); err != nil {
		return fmt.Errorf("remove record: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.history.has(id) {
		delete(r.ended, id)
	}
	return nil
}

// unreadable lists the tasks that have a record which cannot be read.
func (r *Records) unreadable() map[string]bool {
	ids, err := r.ids()
	if err != nil {
		return nil
	}
	out := map[string]bool{}
	for _, id := range ids {
		if _, err := r.Task(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			out[id] = true
		}
	}
	return out
}

// broken reports whether err is that of a record which is there and cannot be read.
func (r *Records) broken(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist)
}
