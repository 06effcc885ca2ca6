package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Leaves are the processes of a task by the name of the group they are in, directly or
// deeper; "" is the task's own group, in which none of ours ever is.
type Leaves map[string][]int

// Total counts all processes.
func (l Leaves) Total() int {
	n := 0
	for _, pids := range l {
		n += len(pids)
	}
	return n
}

// Processes reads who is in the task's group. An absent group has nobody in it. Zombies
// are not listed by the kernel: a group without processes is dead.
func (t *Tree) Processes(task string) (Leaves, error) {
	root := t.procsDir(task)
	leaves := Leaves{}
	own, err := readProcs(root)
	if err != nil || own == nil && !t.Exists(task) {
		return leaves, err
	}
	if len(own) > 0 {
		leaves[""] = own
	}
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return leaves, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		pids, err := procsBelow(filepath.Join(root, e.Name()))
		if err != nil {
			return nil, err
		}
		if len(pids) > 0 {
			leaves[e.Name()] = pids
		}
	}
	return leaves, nil
}

// procsBelow lists the processes of a group and of those in it: a container may make
// groups of its own.
func procsBelow(dir string) ([]int, error) {
	pids, err := readProcs(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return pids, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() {
			more, err := procsBelow(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			pids = append(pids, more...)
		}
	}
	return pids, nil
}

func readProcs(dir string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	// ENODEV: removed between open and read.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // a threaded group: its processes are listed above it
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Kill sends SIGKILL to every process of a container's group, or of the whole task when
// leaf is "". The group is frozen meanwhile (v1) or killed by the kernel in one go (v2), so
// that nothing can fork away. It does not wait for the deaths.
func (t *Tree) Kill(task, leaf string) error {
	if t.dirs(task) == nil || strings.Contains(leaf, "/") || leaf == ".." {
		return nil
	}
	dir := filepath.Join(t.procsDir(task), leaf)
	if t.mode != V1 {
		err := write(filepath.Join(dir, "cgroup.kill"), "1", false)
		if !errors.Is(err, fs.ErrNotExist) { // kernels before 5.14 have no such file
			return err
		}
		return killAll(dir)
	}
	freezer := t.hierarchies["freezer"]
	if freezer == "" {
		return killAll(dir)
	}
	dir = filepath.Join(t.dirIn(freezer, task), leaf)
	state := filepath.Join(dir, "freezer.state")
	if err := write(state, "FROZEN", true); err != nil {
		return err
	}
	err := killAll(dir)
	return errors.Join(err, write(state, "THAWED", true))
}

func killAll(dir string) error {
	pids, err := procsBelow(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
