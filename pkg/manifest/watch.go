package manifest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A watcher says when a directory is worth a scan. It watches the directory itself, and,
// on the way there, every directory whose entry can make the path lead elsewhere: the
// parent, and the place of each symbolic link. While the path does not exist, it watches
// the last part of it that does.
//
// It speaks up only for what ends a change: a file closed after writing, renamed or
// linked, not one being written.
type watcher struct {
	file    *os.File      // of inotify
	changed chan struct{} // one waiting says it all
	lost    func()        // events were lost

	mu      sync.Mutex
	watches map[int32]map[string]bool // by watch: the names that matter; nil: all
	dir     string                    // the real directory, "" while there is none
	open    map[string]time.Time      // files being written, and when they last were
}

const (
	watchMask = unix.IN_CLOSE_WRITE | unix.IN_MODIFY | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_CREATE | unix.IN_DELETE |
		unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	// writeTime is how long after its last write a file that is still open is left alone.
	writeTime = 10 * time.Second
)

func newWatcher(lost func()) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return &watcher{
		file: os.NewFile(uintptr(fd), "inotify"), changed: make(chan struct{}, 1), lost: lost,
		watches: map[int32]map[string]bool{}, open: map[string]time.Time{},
	}, nil
}

// run reads events until ctx ends.
func (w *watcher) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = w.file.Close() })
	defer stop()
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil || n < unix.SizeofInotifyEvent {
			return
		}
		if w.events(buf[:n]) {
			select {
			case w.changed <- struct{}{}:
			default:
			}
		}
	}
}

// events reads a buffer of the kernel's and tells whether anything in it matters.
func (w *watcher) events(buf []byte) (matters bool) {
	for len(buf) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		name := strings.TrimRight(string(buf[unix.SizeofInotifyEvent:end]), "\x00")
		buf = buf[end:]
		matters = w.event(e.Wd, e.Mask, name) || matters
	}
	return matters
}

func (w *watcher) event(wd int32, mask uint32, name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if mask&unix.IN_Q_OVERFLOW != 0 {
		clear(w.open)
		w.lost()
		return true
	}
	names, known := w.watches[wd]
	if !known {
		return false
	}
	if mask&(unix.IN_IGNORED|unix.IN_UNMOUNT|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0 {
		delete(w.watches, wd)
		return true
	}
	if names != nil {
		return names[name] && mask&(unix.IN_MODIFY|unix.IN_CLOSE_WRITE) == 0
	}
	switch {
	case mask&unix.IN_MODIFY != 0:
		w.open[name] = time.Now()
		return false
	case mask&unix.IN_CREATE != 0 && w.isPlain(name):
		w.open[name] = time.Now() // it is closed some time; a link, hard or symbolic, never is
		return false
	}
	delete(w.open, name)
	return true
}

// isPlain tells that a name is a regular file's only name: one that was just created by
// opening it for writing.
func (w *watcher) isPlain(name string) bool {
	var st unix.Stat_t
	err := unix.Lstat(filepath.Join(w.dir, name), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1
}

// writing tells that a program is in the middle of writing the file.
func (w *watcher) writing(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.open[name]
	if ok && time.Since(at) > writeTime {
		delete(w.open, name)
		return false
	}
	return ok
}

// aim watches what matters for path as it leads now. It is called before each scan, so
// that what changes after the scan is told. The kernel gives the same watch for the same
// directory, so what is watched already stays so.
func (w *watcher) aim(path string) error {
	places, dir := way(path)
	now := map[int32]map[string]bool{}
	var errs []error
	add := func(d string) (int32, bool) {
		wd, err := unix.InotifyAddWatch(int(w.file.Fd()), d, watchMask)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
				errs = append(errs, &fs.PathError{Op: "watch", Path: d, Err: err})
			}
			return 0, false
		}
		return int32(wd), true
	}
	for _, p := range places {
		if wd, ok := add(p.dir); ok {
			if now[wd] == nil {
				now[wd] = map[string]bool{}
			}
			now[wd][p.name] = true
		}
	}
	if dir != "" {
		if wd, ok := add(dir); ok {
			now[wd] = nil
		}
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	for wd := range w.watches {
		if _, ok := now[wd]; !ok {
			_, _ = unix.InotifyRmWatch(int(w.file.Fd()), uint32(wd))
		}
	}
	w.watches, w.dir = now, dir
	return errors.Join(errs...)
}

// place is an entry of a directory that decides where a path leads.
type place struct{ dir, name string }

// way follows a path and gives the places that matter on it, and the directory at its
// end, "" if it leads nowhere. It matters where the path is missing, where it is a
// symbolic link, and at its end.
func way(path string) (places []place, dir string) {
	at, rest := "/", split(path)
	if !filepath.IsAbs(path) {
		at = "."
	}
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Join(at, "..")
			continue
		}
		full := filepath.Join(at, name)
		info, err := os.Lstat(full)
		if err != nil {
			return append(places, place{at, name}), ""
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			places = append(places, place{at, name})
			target, err := os.Readlink(full)
			if links++; err != nil || links > 40 {
				return places, ""
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(split(target), rest...)
			continue
		}
		if len(rest) == 0 {
			places = append(places, place{at, name})
		}
		at = full
	}
	return places, at
}

// split gives the names on a path. It keeps "..", which after a symbolic link does not
// undo the name before it.
func split(path string) (names []string) {
	for n := range strings.SplitSeq(path, "/") {
		if n != "" && n != "." {
			names = append(names, n)
		}
	}
	return names
}
