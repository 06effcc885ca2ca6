package manifest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ecsd/pkg/spec"
)

// Config is what a Dir needs. Path is required.
type Config struct {
	Path       string // of the directory; it may be, and lead through, symbolic links
	AllowEmpty bool   // an empty directory means that nothing shall run
	// LastGood is a file that keeps the content that counts, so that a file that is found
	// invalid, or a directory that is found missing, when the agent starts stops nothing
	// either. It holds the manifests' text: it is written with mode 0600. "": none.
	LastGood string

	Rescan time.Duration // time between full scans; 0: 30 s
	Gather time.Duration // time in which further events are gathered after a scan; 0: 200 ms

	Log        *slog.Logger // nil: none
	Registerer prometheus.Registerer
	Event      func(spec.Event) // what became of files, for people; must not block; may be nil
}

// gatherMost bounds how long events that keep coming put off a scan, in units of Gather.
const gatherMost = 10

// Dir is a directory of manifests. Its methods may be called from any goroutine.
type Dir struct {
	cfg     Config
	metrics *metrics
	rescan  chan chan struct{}
	// events starts to watch; tests put another in its place.
	events func(ctx context.Context) (changed <-chan struct{}, aim func(), writing func(string) bool)

	mu      sync.Mutex
	files   []File
	problem string
	ready   bool
}

// New makes a Dir that has read nothing yet.
func New(c Config) *Dir {
	if c.Rescan <= 0 {
		c.Rescan = 30 * time.Second
	}
	if c.Gather <= 0 {
		c.Gather = 200 * time.Millisecond
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Event == nil {
		c.Event = func(spec.Event) {}
	}
	d := &Dir{cfg: c, metrics: newMetrics(c.Registerer), rescan: make(chan chan struct{})}
	d.events = d.inotify
	return d
}

// Files is the status of every file of the directory, as the latest scan found it,
// ordered by path. A directory that is not followed is the first of them itself.
func (d *Dir) Files() []File {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.files)
}

// Problem says why the directory is not followed, and what to do; "" when it is.
func (d *Dir) Problem() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.problem
}

// Ready tells whether the directory has been read and what it says is known: a set has
// been handed on, or the directory is there and empty.
func (d *Dir) Ready() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ready
}

// Rescan reads every file anew and returns when what was found has been handed on. It
// needs Run to run.
func (d *Dir) Rescan(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case d.rescan <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run follows the directory until ctx ends, and calls set with everything it defines:
// first when that is known, then whenever it changes. While the directory cannot be
// followed set is not called: silence means "as before". set must not block for long. It
// is called once.
func (d *Dir) Run(ctx context.Context, set func(Set)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed, aim, writing := d.events(ctx)
	loop := &loop{dir: d, set: set, aim: aim, scanner: scanner{path: d.cfg.Path, writing: writing}, memo: newMemo()}
	loop.remember()

	tick := time.NewTicker(d.cfg.Rescan)
	defer tick.Stop()
	// While gathering, pause is running, and latest is when it ends at last.
	pause := time.NewTimer(0)
	pause.Stop()
	defer pause.Stop()
	var latest time.Time

	loop.pass(true)
	quiet := time.Now().Add(d.cfg.Gather) // until then, events are gathered
	for {
		var done chan struct{}
		full := false
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			now := time.Now()
			if now.Before(quiet) && latest.IsZero() {
				latest = now.Add(gatherMost * d.cfg.Gather)
			}
			if !latest.IsZero() && now.Before(latest) {
				pause.Reset(min(d.cfg.Gather, latest.Sub(now)))
				continue
			}
		case <-pause.C:
		case <-tick.C:
			full = true
		case done = <-d.rescan:
			full = true
		}
		pause.Stop()
		latest = time.Time{}
		loop.pass(full)
		quiet = time.Now().Add(d.cfg.Gather)
		if done != nil {
			close(done)
		}
	}
}

// inotify watches the real directory. Where that cannot be, the clock alone must do.
func (d *Dir) inotify(ctx context.Context) (<-chan struct{}, func(), func(string) bool) {
	w, err := newWatcher(d.metrics.overflows.Inc)
	if err != nil {
		d.cfg.Log.Warn("manifests cannot be watched; changes are found by the clock alone: raise fs.inotify.max_user_instances", "every", d.cfg.Rescan, "error", err)
		return nil, func() {}, nil
	}
	go w.run(ctx)
	var last string
	aim := func() {
		said := ""
		if err := w.aim(d.cfg.Path); err != nil {
			said = err.Error()
		}
		if said != "" && said != last {
			d.cfg.Log.Warn("part of the manifests' path cannot be watched; changes there are found by the clock alone: raise fs.inotify.max_user_watches", "every", d.cfg.Rescan, "error", said)
		}
		last = said
	}
	return w.changed, aim, w.writing
}

// loop is what Run has in hands; it is of one goroutine.
type loop struct {
	dir     *Dir
	set     func(Set)
	aim     func()
	scanner scanner
	memo    *memo
	now     state

	announced bool   // set has been called
	revision  string // of the set it was called with
	said      map[string]string
}

// pass is one scan and what follows from it.
func (l *loop) pass(full bool) {
	began := time.Now()
	l.aim()
	f := l.scanner.scan(full)
	d := decide(l.dir.cfg.Path, l.now, f, l.dir.cfg.AllowEmpty, l.memo)
	l.now = d.next
	l.memo.keep(l.now.good)
	l.dir.metrics.scan.Observe(time.Since(began).Seconds())
	l.dir.metrics.lastScan.SetToCurrentTime()
	l.dir.metrics.count(d.files, d.problem != "")

	// Before set is called: who acts on the set may want to look at the files.
	l.dir.mu.Lock()
	l.dir.files, l.dir.problem = d.files, d.problem
	l.dir.mu.Unlock()
	if d.ready && (!l.announced || d.set.Revision != l.revision) {
		l.announced, l.revision = true, d.set.Revision
		l.dir.metrics.revision.Reset()
		l.dir.metrics.revision.WithLabelValues(d.set.Revision).Set(1)
		l.dir.metrics.lastChange.SetToCurrentTime()
		l.dir.cfg.Log.Info("manifests changed", "revision", d.set.Revision, "definitions", len(d.set.Definitions), "services", len(d.set.Services))
		l.set(d.set)
		l.save()
	}

	l.dir.mu.Lock()
	l.dir.ready = d.ready || f.err == nil
	l.dir.mu.Unlock()
	l.tell(d)
}

// tell makes events and counts of what became different for a file.
func (l *loop) tell(d decision) {
	now := make(map[string]string, len(d.files))
	for _, f := range d.files {
		text := f.Status + "\n" + strings.Join(f.Reasons, "\n")
		now[f.Path] = text
		if l.said[f.Path] == text || f.Status == StatusIgnored {
			continue
		}
		e := spec.Event{Time: time.Now(), Object: "manifest/" + f.Path}
		switch {
		case f.Status == StatusAccepted:
			e.Type, e.Reason, e.Message = spec.EventNormal, "ManifestAccepted", "defines "+strings.Join(f.Documents, ", ")
		case f.Path == l.dir.cfg.Path:
			e.Type, e.Reason, e.Message = spec.EventWarning, "PruneBlocked", strings.Join(f.Reasons, "; ")
		case d.problem != "":
			continue // said once, of the directory
		default:
			if c := d.causes[f.Path]; c != "" {
				l.dir.metrics.rejections.WithLabelValues(c).Inc()
			}
			e.Type, e.Reason, e.Message = spec.EventWarning, "ManifestRefused", strings.Join(f.Reasons, "; ")
			if f.KeptGood {
				e.Message += " (its last good content counts on)"
			}
		}
		l.dir.cfg.Event(e)
	}
	if d.problem == "" {
		for path, was := range l.said {
			if _, still := now[path]; !still && path != l.dir.cfg.Path && !strings.HasPrefix(was, StatusIgnored) {
				l.dir.cfg.Event(spec.Event{Time: time.Now(), Type: spec.EventNormal, Object: "manifest/" + path, Reason: "ManifestRemoved",
					Message: fmt.Sprintf("%s is gone, and what it defined with it", path)})
			}
		}
	}
	l.said = now
}
