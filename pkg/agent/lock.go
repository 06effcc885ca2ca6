package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// ErrLocked is what Run fails with when another agent has the same state or containerd
// namespace.
var ErrLocked = errors.New("another agent is at work")

// lock takes the locks that keep a second agent out: one on the data directory, one on
// (containerd, namespace). They end with the process, however it ends.
func lock(c Config) (release func(), err error) {
	var held []*flock.Flock
	release = func() {
		for _, l := range held {
			_ = l.Close()
		}
	}
	for _, l := range []struct{ file, what, cure string }{
		{filepath.Join(c.DataDir, "agent.lock"), "the data directory " + c.DataDir, "--datadir"},
		{
			filepath.Join(filepath.Dir(c.Containerd), "ecsd-"+c.Namespace+".lock"),
			fmt.Sprintf("namespace %s of containerd at %s", c.Namespace, c.Containerd), "--containerd-namespace",
		},
	} {
		if err := os.MkdirAll(filepath.Dir(l.file), 0o711); err != nil {
			release()
			return nil, err
		}
		f := flock.New(l.file)
		got, err := f.TryLock()
		if err != nil {
			release()
			return nil, fmt.Errorf("lock %s: %w", l.what, err)
		}
		if !got {
			release()
			return nil, fmt.Errorf("%w on %s (%s is locked): stop it, or give this one another with %s", ErrLocked, l.what, l.file, l.cure)
		}
		held = append(held, f)
	}
	return release, nil
}
