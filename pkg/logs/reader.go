package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Options say which lines of a log are wanted.
type Options struct {
	Follow bool      // go on as the log grows, until the context ends or Ended is closed
	Tail   int       // the last so many lines of what is there already; negative: all
	Since  time.Time // lines of this moment and later; zero: all
	Stream string    // "stdout", "stderr", or "" for both

	// Ended, when it is closed, says that nothing more will be written: a follower reads
	// what is left and ends. Nil: it never ends by itself.
	Ended <-chan struct{}
}

// maxLine bounds a line put together from its pieces; a longer one is given in several
// Lines marked More.
const maxLine = 1 << 20

// Reader reads the log of one container over all its files, in the order in which they
// were written, without a line lost or repeated. It is for one goroutine. Close it: it
// holds files open, and, when it follows, a watch on the directory.
type Reader struct {
	path string
	opt  Options

	files []scanner // still to be read, oldest first; the first is being read
	last  os.FileInfo
	skip  int // lines to leave out for Options.Tail
	gap   bool
	parts map[string]*joint // unfinished lines, by stream
	watch *fsnotify.Watcher
	ended bool
}

// joint is a line in pieces.
type joint struct {
	text  []byte
	time  time.Time
	given bool // the last Line of it has been given: forget it before the next
}

// Open makes a reader of the log whose newest file is path. A log that does not exist is
// an error that wraps fs.ErrNotExist, except to a follower, which waits for it.
func Open(path string, o Options) (*Reader, error) {
	r := &Reader{path: path, opt: o, parts: map[string]*joint{}}
	if err := r.open(); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Reader) open() error {
	if r.opt.Follow {
		// Before the first look at the files: what changes after it is then told.
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return fmt.Errorf("log %s: watch: %w: raise fs.inotify.max_user_instances", r.path, err)
		}
		r.watch = w
		if err := r.aim(); err != nil {
			return err
		}
	}
	if err := r.advance(); err != nil {
		return err
	}
	if len(r.files) == 0 && !r.opt.Follow {
		return &fs.PathError{Op: "read log", Path: r.path, Err: fs.ErrNotExist}
	}
	r.gap = false
	return r.seekTail()
}

// Close frees what the reader holds. It may be called again.
func (r *Reader) Close() error {
	for _, s := range r.files {
		_ = s.f.Close()
	}
	r.files = nil
	if r.watch != nil {
		w := r.watch
		r.watch = nil
		return w.Close()
	}
	return nil
}

// Next gives the next line. At the end it gives io.EOF, or, following, waits; then it
// gives the context's error when that ends.
func (r *Reader) Next(ctx context.Context) (Line, error) {
	for {
		l, err := r.step()
		if err == nil {
			if r.skip > 0 {
				if !l.More {
					r.skip--
				}
				continue
			}
			return l, nil
		}
		if err != io.EOF {
			return Line{}, err
		}
		more, err := r.turn()
		if err != nil {
			return Line{}, err
		}
		if more {
			continue
		}
		if !r.opt.Follow || r.ended {
			return Line{}, io.EOF
		}
		if err := r.wait(ctx); err != nil {
			return Line{}, err
		}
	}
}

// step gives the next wanted line of the file being read, or io.EOF at its end.
func (r *Reader) step() (Line, error) {
	if len(r.files) == 0 {
		return Line{}, io.EOF
	}
	for {
		b, err := r.files[0].next()
		if err != nil {
			if err != io.EOF {
				err = fmt.Errorf("log %s: %w", r.path, err)
			}
			return Line{}, err
		}
		if l, ok := r.join(decode(b)); ok && r.wanted(l) {
			l.Gap, r.gap = r.gap, false
			return l, nil
		}
	}
}

// wanted tells whether a line is among those asked for. A line that does not tell its
// time is never hidden by Since.
func (r *Reader) wanted(l Line) bool {
	if r.opt.Stream != "" && l.Stream != r.opt.Stream {
		return false
	}
	return r.opt.Since.IsZero() || l.Time.IsZero() || !l.Time.Before(r.opt.Since)
}

// join puts a record to the pieces of its stream, and gives the line once it is whole,
// or has grown too long to be held.
func (r *Reader) join(rec record) (Line, bool) {
	j := r.parts[rec.stream]
	if j == nil {
		if !rec.partial {
			return Line{Time: rec.time, Stream: rec.stream, Text: rec.text}, true
		}
		j = &joint{given: true}
		r.parts[rec.stream] = j
	}
	if j.given {
		j.text, j.given = j.text[:0], false
	}
	if len(j.text) == 0 {
		j.time = rec.time
	}
	j.text = append(j.text, rec.text...)
	if rec.partial && len(j.text) < maxLine {
		return Line{}, false
	}
	j.given = true
	l := Line{Time: j.time, Stream: rec.stream, Text: j.text, More: rec.partial}
	if !rec.partial && cap(j.text) > 64<<10 {
		delete(r.parts, rec.stream) // do not hold a megabyte for one long line
	}
	return l, true
}

// turn looks, at the end of a file, whether there is something after it.
func (r *Reader) turn() (more bool, err error) {
	if len(r.files) > 1 { // a rotated file, read before: nobody writes it any more
		_ = r.files[0].f.Close()
		r.files = r.files[1:]
		return true, nil
	}
	now, err := os.Stat(r.path)
	if err != nil || (r.last != nil && os.SameFile(now, r.last)) {
		// Still the newest; or another is just being made, and then its coming is told.
		return false, nil
	}
	// It has been renamed, so its writer is done with it; but it may have written after
	// the end was seen. advance puts the newer files behind it, and it is read once more.
	return true, r.advance()
}

// advance opens the files newer than the last one known.
func (r *Reader) advance() error {
	files, found, err := chain(r.path, r.last)
	if err != nil {
		return fmt.Errorf("log %s: %w", r.path, err)
	}
	if r.last != nil && !found && len(files) > 1 {
		r.gap = true
	}
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			closeAll(files)
			return fmt.Errorf("log %s: %w", r.path, err)
		}
		r.last = info
		r.files = append(r.files, scanner{f: f})
	}
	return nil
}

// seekTail finds out how many of the lines that are there are to be left out. It counts
// the newest file first and stops as soon as it has counted enough.
func (r *Reader) seekTail() error {
	r.dropOld()
	if r.opt.Tail < 0 || len(r.files) == 0 {
		return nil
	}
	counted := 0
	for i := len(r.files) - 1; i >= 0; i-- {
		c := Reader{path: r.path, opt: r.opt, parts: map[string]*joint{}, files: []scanner{{f: r.files[i].f}}}
		for {
			l, err := c.step()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if !l.More {
				counted++
			}
		}
		if counted >= r.opt.Tail {
			for _, s := range r.files[:i] {
				_ = s.f.Close()
			}
			r.files = r.files[i:]
			break
		}
	}
	r.skip = max(counted-r.opt.Tail, 0)
	return nil
}

// dropOld leaves out the files whose last line was written before Since.
func (r *Reader) dropOld() {
	if r.opt.Since.IsZero() {
		return
	}
	for len(r.files) > 1 {
		info, err := r.files[0].f.Stat()
		if err != nil || !info.ModTime().Before(r.opt.Since) {
			return
		}
		_ = r.files[0].f.Close()
		r.files = r.files[1:]
	}
}

// wait returns when something may have changed.
func (r *Reader) wait(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.opt.Ended:
			r.ended = true
			return nil
		case e, ok := <-r.watch.Events:
			if !ok {
				return fs.ErrClosed
			}
			if e.Has(fsnotify.Write) && e.Name != r.path {
				continue // another container's log, in the same directory
			}
			return r.aim()
		case <-r.watch.Errors:
			return r.aim() // an overflow: look
		}
	}
}

// aim watches the log's directory; while it does not exist, the nearest one above that
// does, so that its making is told.
func (r *Reader) aim() error {
	want := filepath.Dir(r.path)
	for {
		dir := nearest(want)
		err := r.watch.Add(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("log %s: watch %s: %w: raise fs.inotify.max_user_watches", r.path, dir, err)
		}
		if err == nil && nearest(want) == dir { // else one was made or removed between the calls
			for _, old := range r.watch.WatchList() {
				if old != dir {
					_ = r.watch.Remove(old)
				}
			}
			return nil
		}
	}
}

// nearest is the directory, or the first one above it, that exists.
func nearest(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
