package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"ecsd/pkg/spec"
)

// Mode is how the machine's control groups are laid out and who owns them.
type Mode int

// The modes a Tree can have.
const (
	V1        Mode = iota + 1 // one hierarchy a controller, perhaps an empty unified one too
	V2                        // one hierarchy, written directly
	V2Systemd                 // one hierarchy, owned by systemd
)

// String names the mode for logs.
func (m Mode) String() string {
	switch m {
	case V1:
		return "v1"
	case V2:
		return "v2"
	case V2Systemd:
		return "v2 (systemd)"
	}
	return "unknown"
}

// Tree is where the groups of one agent's tasks live. It holds no state but paths.
type Tree struct {
	mode   Mode
	parent string // "/ecs"
	// hierarchies are the mount points by controller; "unified" is the v2 tree, which has
	// all of them on a v2 host, and "name=…" those without controller.
	hierarchies map[string]string
	slices      slicer
}

// slicer makes and stops slices: systemd.
type slicer interface {
	start(ctx context.Context, slice string, r *specs.LinuxResources) error
	stop(ctx context.Context, slice string) error
}

// Detect looks at the mounted hierarchies and decides. parent is the path of the group
// that will hold the tasks' groups; under systemd it decides how their slices are called
// (spec.SlicePrefix).
func Detect(parent string) (*Tree, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hierarchies, err := parseMountinfo(bufio.NewScanner(f))
	if err != nil {
		return nil, fmt.Errorf("read /proc/self/mountinfo: %w", err)
	}
	_, systemd := os.Stat("/run/systemd/system")
	return newTree(parent, hierarchies, systemd == nil)
}

func newTree(parent string, hierarchies map[string]string, systemd bool) (*Tree, error) {
	t := &Tree{mode: V1, parent: path.Clean("/" + parent), hierarchies: hierarchies}
	if t.parent == "/" {
		return nil, errors.New("cgroup parent is empty: name one, such as /ecs")
	}
	if len(hierarchies) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup")
	}
	if len(hierarchies) == 1 && hierarchies["unified"] != "" {
		t.mode = V2
		if systemd {
			t.mode, t.slices = V2Systemd, systemdSlices{}
		}
	}
	return t, nil
}

// parseMountinfo finds the cgroup mounts: mount point by controller.
func parseMountinfo(lines *bufio.Scanner) (map[string]string, error) {
	found := map[string]string{}
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		if !ok {
			continue
		}
		mount, super := strings.Fields(before), strings.Fields(after)
		if len(mount) < 5 || len(super) < 3 {
			continue
		}
		point := mount[4]
		switch super[0] {
		case "cgroup2":
			if _, ok := found["unified"]; !ok {
				found["unified"] = point
			}
		case "cgroup":
			for _, option := range strings.Split(super[2], ",") {
				if option == "rw" || option == "ro" || option == "" || strings.Contains(option, "=") && !strings.HasPrefix(option, "name=") {
					continue
				}
				if _, ok := found[option]; !ok {
					found[option] = point
				}
			}
		}
	}
	return found, lines.Err()
}

// Mode tells how the tree is laid out.
func (t *Tree) Mode() Mode { return t.mode }

// Leaf is the name of a container's group inside its task's, from the cgroupsPath of its
// OCI spec: "/ecs/<task>/web" is "web", "ecstasks-<task>.slice:ecsd:<id>" is "ecsd-<id>.scope".
func Leaf(cgroupsPath string) string {
	if parts := strings.Split(cgroupsPath, ":"); len(parts) == 3 {
		return parts[1] + "-" + parts[2] + ".scope"
	}
	return path.Base(cgroupsPath)
}

// slice is the name of a task's slice under systemd.
func (t *Tree) slice(task string) string {
	return spec.TaskCgroup(task, spec.Host{SystemdCgroup: true, CgroupParent: t.parent})
}

// parentSlice is the name of the slice that holds all tasks' slices under systemd.
func (t *Tree) parentSlice() string { return spec.SlicePrefix(t.parent) + ".slice" }

// dirs are the directories of a task's group, one in each hierarchy, without repeats
// (cpu and cpuacct are often one mount).
func (t *Tree) dirs(task string) []string {
	if task == "" || strings.ContainsAny(task, "/.") {
		return nil // never the parent, never out of it
	}
	var all []string
	for _, mount := range t.hierarchies {
		all = append(all, t.dirIn(mount, task))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (t *Tree) dirIn(mount, task string) string {
	if t.mode == V2Systemd {
		return filepath.Join(mount, t.parentSlice(), t.slice(task))
	}
	return filepath.Join(mount, t.parent, task)
}

// dir is the task's directory in the hierarchy of the first of these controllers that is
// mounted; on v2 there is only one.
func (t *Tree) dir(task string, controllers ...string) string {
	if t.mode == V1 {
		for _, c := range controllers {
			if mount := t.hierarchies[c]; mount != "" {
				return t.dirIn(mount, task)
			}
		}
	}
	if mount := t.hierarchies["unified"]; mount != "" {
		return t.dirIn(mount, task)
	}
	for _, mount := range t.hierarchies {
		return t.dirIn(mount, task)
	}
	return ""
}

// procsDir is the hierarchy in which processes are counted: one is enough, since runc puts
// a process into all of them.
func (t *Tree) procsDir(task string) string {
	return t.dir(task, "pids", "freezer", "memory", "cpu")
}

// Exists reports whether the task's group is there.
func (t *Tree) Exists(task string) bool {
	info, err := os.Stat(t.procsDir(task))
	return err == nil && info.IsDir()
}

// Create makes the task's group with its limits. Called again it writes the limits again.
// A limit that this kernel cannot set is an error: better no task than one without its limit.
func (t *Tree) Create(ctx context.Context, task string, r *specs.LinuxResources) error {
	if t.dirs(task) == nil {
		return fmt.Errorf("cgroup: %q is not a task id", task)
	}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	var err error
	switch t.mode {
	case V2Systemd:
		err = t.slices.start(ctx, t.slice(task), r)
	case V2:
		err = t.createV2(task, r)
	default:
		err = t.createV1(task, r)
	}
	if err != nil {
		return fmt.Errorf("make the cgroup of task %s: %w", task, err)
	}
	return nil
}

// BusyError says that a group cannot be removed because processes are in it.
type BusyError struct {
	Task      string
	Processes int
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("the cgroup of task %s still has %d process(es)", e.Task, e.Processes)
}

// Remove removes the task's group, with what is left in it, from every hierarchy. With
// processes in it nothing is removed and the error is a *BusyError. An absent group is nil.
func (t *Tree) Remove(ctx context.Context, task string) error {
	leaves, err := t.Processes(task)
	if err != nil {
		return err
	}
	if n := leaves.Total(); n > 0 {
		return &BusyError{Task: task, Processes: n}
	}
	if t.mode == V2Systemd && t.Exists(task) {
		if err := t.slices.stop(ctx, t.slice(task)); err != nil {
			return fmt.Errorf("stop %s: %w", t.slice(task), err)
		}
	}
	var errs []error
	for _, dir := range t.dirs(task) {
		errs = append(errs, removeTree(dir))
	}
	return errors.Join(errs...)
}

// RemoveLeaf removes a container's group and what is in it, from every hierarchy. The OCI
// runtime does so itself; this is for what a crash of it left behind.
func (t *Tree) RemoveLeaf(task, leaf string) error {
	if leaf == "" || leaf == "." || leaf == ".." || strings.Contains(leaf, "/") {
		return fmt.Errorf("cgroup: %q is not the name of a container's group", leaf)
	}
	var errs []error
	for _, dir := range t.dirs(task) {
		errs = append(errs, removeTree(filepath.Join(dir, leaf)))
	}
	return errors.Join(errs...)
}

// removeTree removes a group and those in it, deepest first. The kernel may need a moment
// after the last exit; EBUSY is tried again a few times within some milliseconds.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for try := 0; ; try++ {
		err := unix.Rmdir(dir)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EBUSY) && try < 5:
			time.Sleep(time.Millisecond << try) //nolint:forbidigo // an exiting process leaves its cgroup a moment after it is reaped, and nothing tells when
		default:
			return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
		}
	}
}

// Tasks lists the ids of tasks that have a group, for the sweep at start.
func (t *Tree) Tasks() ([]string, error) {
	var ids []string
	for _, mount := range t.hierarchies {
		dir := filepath.Join(mount, t.parent)
		if t.mode == V2Systemd {
			dir = filepath.Join(mount, t.parentSlice())
		}
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			name := e.Name()
			if t.mode == V2Systemd {
				name = strings.TrimSuffix(strings.TrimPrefix(name, spec.SlicePrefix(t.parent)+"-"), ".slice")
			}
			ids = append(ids, name)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// SwapAccounting reports whether the kernel can limit swap by group. On v2 the files are
// in every group but the root, so the answer is taken from the first group there is.
func (t *Tree) SwapAccounting() bool {
	if t.mode == V1 {
		_, err := os.Stat(filepath.Join(t.hierarchies["memory"], "memory.memsw.limit_in_bytes"))
		return err == nil && t.hierarchies["memory"] != ""
	}
	found, _ := filepath.Glob(filepath.Join(t.hierarchies["unified"], "*", "memory.swap.max"))
	return len(found) > 0
}
