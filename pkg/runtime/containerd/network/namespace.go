package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespaces are pinned: a bind mount on a file keeps one alive when no process is in it,
// and when the agent is not there. Unmounting the pin lets it die with its last process,
// and its veth pair with it.

// pinDir makes the directory of the pins. As `ip netns` does it becomes a mount of its own
// with shared propagation: an unmounted pin then disappears from the mount namespaces
// that other services copied from ours as well, instead of being held there for ever.
func pinDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("directory of the network namespaces: %w", err)
	}
	err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) { // EINVAL: not a mount point yet
		return wrap(err, "make %s a shared mount", dir)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind mount %s on itself: %w", dir, err)
	}
	return wrap(unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""), "make %s a shared mount", dir)
}

func (l layout) pin(id string) string { return filepath.Join(l.pins, id) }

// pinned reports whether a namespace is pinned at path.
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// newNamespace makes a namespace, pins it at path and runs setup in it. A namespace
// pinned there already is left as it is, and setup is not run.
func newNamespace(path string, setup func() error) error {
	if pinned(path) {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("pin of a network namespace: %w", err)
	}
	_ = f.Close() // nothing was written
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		if err := setup(); err != nil {
			return err
		}
		return wrap(unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""), "pin network namespace at %s", path)
	})
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// unpin lets go of a namespace. Not pinned it does nothing.
func unpin(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break // not mounted (any more)
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pin of a network namespace: %w", err)
	}
	return nil
}

// onThread runs f on an operating system thread that nothing else uses meanwhile and that
// returns to the namespace it came from. When it cannot return it is thrown away.
//
// f must do its system calls itself: what the standard library hands to another
// goroutine runs in the host's namespace.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer func() { _ = home.Close() }()
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
		result <- err
	}()
	return <-result
}

// within runs f in the namespace pinned at path, under onThread's rule.
func within(path string, f func() error) error {
	return onThread(func() error {
		ns, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = ns.Close() }()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", path, err)
		}
		return f()
	})
}

// wrap adds what was being done to an error; nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
