package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a directory.
const (
	maxFile    = 1 << 20 // bytes; spec.Decode has the same limit
	maxEntries = 10_000
)

// allowEmpty is the file that takes the guard against mass deletion away.
const allowEmpty = ".allow-empty"

// found is a directory as one scan saw it.
type found struct {
	err        error   // it could not be read, or not as a whole: nothing follows from the entries
	entries    []entry // ordered by name
	allowEmpty bool    // it says itself that it may be empty
}

// entry is one name in the directory. Exactly one of content, problem and ignored is set.
type entry struct {
	name     string
	content  *content
	problem  string // it is called like a manifest but cannot be read
	ignored  string // why it is no manifest
	warnings []string
}

// stamp tells whether a file may have changed since it was read. ctime cannot be set by
// anybody, so a file that was touched or restored with old times is seen too.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
	mode, uid    uint32
}

// cached is what is known of a file from scans before.
type cached struct {
	stamp   stamp
	sure    bool // the stamp was old enough at reading that a later write would have changed it
	content *content
}

// racy is how close before its reading a file's change may lie for another change to
// have the same time stamp (the kernel's clock ticks every 1 to 10 ms).
const racy = 100 * time.Millisecond

// scanner reads a directory again and again.
type scanner struct {
	path string
	seen map[string]cached
	// writing tells that a program has the file open and is writing it; may be nil.
	writing func(name string) bool
}

// scan reads the directory. It resolves the path anew each time, opens nothing that lies
// outside of it, and never blocks on what is not a regular file. Contents that were
// parsed before are not parsed again; with full false, files whose stamp did not change
// are not even read.
func (s *scanner) scan(full bool) found {
	root, err := openRoot(s.path)
	if err != nil {
		return found{err: fmt.Errorf("%w: create the directory, or correct --manifests", bare(s.path, err))}
	}
	defer root.Close()
	dir, err := root.Open(".")
	if err != nil {
		return found{err: bare(s.path, err)}
	}
	defer dir.Close()
	list, err := dir.ReadDir(maxEntries + 1)
	if err != nil && err != io.EOF {
		return found{err: bare(s.path, err)}
	}
	if len(list) > maxEntries {
		return found{err: fmt.Errorf("%s: has more than %d entries: spread them over several hosts or files (a file may hold many documents)", s.path, maxEntries)}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })

	f := found{entries: make([]entry, 0, len(list))}
	seen := make(map[string]cached, len(list))
	for _, d := range list {
		name := d.Name()
		if name == allowEmpty {
			f.allowEmpty = true
			continue
		}
		if strings.HasPrefix(name, "..") { // a ConfigMap's own: ..data and what it leads to
			continue
		}
		if why := notManifest(name, d); why != "" {
			f.entries = append(f.entries, entry{name: name, ignored: why})
			continue
		}
		e, c, ok := s.file(root, int(dir.Fd()), name, full)
		if !ok {
			continue // gone since the directory was listed
		}
		if c.content != nil {
			seen[name] = c
		}
		f.entries = append(f.entries, e)
	}
	s.seen = seen
	return f
}

// openRoot is os.OpenRoot for a path that may have become anything: opening a FIFO, which
// that would do, blocks.
func openRoot(path string) (*os.Root, error) {
	fd, err := unix.Open(path, unix.O_DIRECTORY|unix.O_NONBLOCK|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// notManifest says why a name is not looked at, "" if it is.
func notManifest(name string, d fs.DirEntry) string {
	switch ext := filepath.Ext(name); {
	case d.IsDir():
		return "a directory: subdirectories are not read"
	case strings.HasPrefix(name, "."):
		return "its name begins with a dot"
	case ext == ".yaml" || ext == ".yml" || ext == ".json":
		return ""
	case strings.EqualFold(ext, ".yaml") || strings.EqualFold(ext, ".yml") || strings.EqualFold(ext, ".json"):
		return "the ending must be in lower case"
	}
	return "its name does not end in .yaml, .yml or .json"
}

// file looks at one file. ok is false when it is not there.
func (s *scanner) file(root *os.Root, dir int, name string, full bool) (e entry, c cached, ok bool) {
	e.name = name
	bad := func(format string, args ...any) (entry, cached, bool) {
		e.problem = fmt.Sprintf(format, args...)
		return e, cached{}, true
	}
	old, known := s.seen[name]
	if s.writing != nil && s.writing(name) { // it is read when the writer closes it
		if !known {
			return bad("is being written")
		}
		e.content = old.content
		return e, old, true
	}

	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return e, c, false
		}
		return bad("cannot be examined: %v", err)
	}
	mode := fs.FileMode(0)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		now := stampOf(&st)
		if known && !full && old.sure && old.stamp == now {
			e.content, e.warnings = old.content, permissions(now)
			return e, old, true
		}
	case unix.S_IFLNK:
		info, err := root.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return bad("is a link to a file that does not exist")
		case err != nil:
			return bad("is a link that cannot be followed within the directory: %v", cause(err))
		}
		mode = info.Mode().Type()
		if info.IsDir() {
			e.ignored = "a link to a directory: subdirectories are not read"
			return e, c, true
		}
	default:
		return bad("is not a regular file")
	}
	if mode != 0 {
		return bad("is a link to something that is not a regular file")
	}

	// O_NONBLOCK, because a FIFO may have taken the file's place since.
	h, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return e, c, false
		}
		return bad("cannot be opened: %v", cause(err))
	}
	defer h.Close()
	readAt := time.Now()
	if err := unix.Fstat(int(h.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return bad("is not a regular file")
	}
	c.stamp = stampOf(&st)
	if st.Size > maxFile {
		return bad("has %d bytes: at most %d are allowed", st.Size, maxFile)
	}
	if known && !full && old.sure && old.stamp == c.stamp {
		e.content, e.warnings = old.content, permissions(c.stamp)
		return e, old, true
	}
	data, err := io.ReadAll(io.LimitReader(h, maxFile+1))
	if err != nil {
		return bad("cannot be read: %v", cause(err))
	}
	e.warnings = permissions(c.stamp)
	changed := time.Unix(st.Ctim.Unix())
	c.sure = readAt.Sub(changed) > racy
	if known && bytes.Equal(old.content.data, data) {
		c.content = old.content
	} else {
		c.content = parse(filepath.Join(s.path, name), data)
	}
	e.content = c.content
	return e, c, true
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim, st.Mode, st.Uid}
}

// permissions warns of files that others than root can change: who can write a manifest
// can be root on this host.
func permissions(s stamp) []string {
	var w []string
	if s.mode&0o002 != 0 {
		w = append(w, fmt.Sprintf("anybody can write it (mode %04o): chmod o-w", s.mode&0o7777))
	}
	if s.uid != 0 && int(s.uid) != os.Geteuid() {
		w = append(w, fmt.Sprintf("it belongs to user %d, who can thereby run anything on this host: chown root", s.uid))
	}
	return w
}

// cause takes the operation and the path, which are said already, off an error.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func bare(path string, err error) error { return fmt.Errorf("%s: %w", path, cause(err)) }
