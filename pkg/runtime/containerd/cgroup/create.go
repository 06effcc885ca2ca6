package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// setting is a value for one file of a group.
type setting struct {
	controller, file, value string
	optional                bool // a kernel without the file is no error
}

// settingsV1 are the files of cgroup v1 that a task's limits are written to. Pure.
func settingsV1(r *specs.LinuxResources) []setting {
	var s []setting
	if c := r.CPU; c != nil {
		if c.Shares != nil {
			s = append(s, setting{controller: "cpu", file: "cpu.shares", value: utoa(*c.Shares)})
		}
		if c.Period != nil {
			s = append(s, setting{controller: "cpu", file: "cpu.cfs_period_us", value: utoa(*c.Period)})
		}
		if c.Quota != nil {
			s = append(s, setting{controller: "cpu", file: "cpu.cfs_quota_us", value: itoa(*c.Quota)})
		}
	}
	if m := r.Memory; m != nil {
		if m.Limit != nil {
			s = append(s, setting{controller: "memory", file: "memory.limit_in_bytes", value: itoa(*m.Limit)})
		}
		if m.Swap != nil { // memory and swap together; absent without swap accounting
			s = append(s, setting{controller: "memory", file: "memory.memsw.limit_in_bytes", value: itoa(*m.Swap), optional: true})
		}
		if m.Reservation != nil {
			s = append(s, setting{controller: "memory", file: "memory.soft_limit_in_bytes", value: itoa(*m.Reservation)})
		}
	}
	if v, ok := pidsMax(r); ok {
		s = append(s, setting{controller: "pids", file: "pids.max", value: v})
	}
	return s
}

// settingsV2 are the files of cgroup v2 that a task's limits are written to. Pure. Shares
// become a weight by the formula that runc and systemd use.
func settingsV2(r *specs.LinuxResources) []setting {
	var s []setting
	if c := r.CPU; c != nil {
		if c.Shares != nil && *c.Shares >= 2 {
			s = append(s, setting{controller: "cpu", file: "cpu.weight", value: utoa(weight(*c.Shares))})
		}
		if c.Quota != nil {
			period := uint64(100000)
			if c.Period != nil {
				period = *c.Period
			}
			quota := "max"
			if *c.Quota > 0 {
				quota = itoa(*c.Quota)
			}
			s = append(s, setting{controller: "cpu", file: "cpu.max", value: quota + " " + utoa(period)})
		}
	}
	if m := r.Memory; m != nil {
		if m.Limit != nil {
			s = append(s, setting{controller: "memory", file: "memory.max", value: orMax(*m.Limit)})
		}
		if m.Swap != nil {
			swap := *m.Swap // in an OCI spec: memory and swap together
			if swap > 0 && m.Limit != nil && *m.Limit > 0 {
				swap -= *m.Limit
			}
			s = append(s, setting{controller: "memory", file: "memory.swap.max", value: orMax(swap), optional: true})
		}
		if m.Reservation != nil {
			s = append(s, setting{controller: "memory", file: "memory.low", value: itoa(*m.Reservation)})
		}
	}
	if v, ok := pidsMax(r); ok {
		s = append(s, setting{controller: "pids", file: "pids.max", value: v})
	}
	return s
}

func pidsMax(r *specs.LinuxResources) (string, bool) {
	if r.Pids == nil || r.Pids.Limit == nil {
		return "", false
	}
	if *r.Pids.Limit <= 0 {
		return "max", true
	}
	return itoa(*r.Pids.Limit), true
}

// weight turns cpu.shares (2…262144) into cpu.weight (1…10000).
func weight(shares uint64) uint64 {
	return 1 + (min(max(shares, 2), 262144)-2)*9999/262142
}

func orMax(v int64) string {
	if v < 0 {
		return "max"
	}
	return itoa(v)
}

func itoa(v int64) string  { return strconv.FormatInt(v, 10) }
func utoa(v uint64) string { return strconv.FormatUint(v, 10) }

func (t *Tree) createV1(task string, r *specs.LinuxResources) error {
	for controller, mount := range t.hierarchies {
		if controller == "unified" || strings.HasPrefix(controller, "name=") {
			continue // no controller to limit; runc makes these itself
		}
		dir := t.dirIn(mount, task)
		if controller == "cpuset" {
			if err := makeCpuset(mount, dir); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, s := range settingsV1(r) {
		mount := t.hierarchies[s.controller]
		if mount == "" {
			return fmt.Errorf("the %s controller is not mounted, so %s cannot be set", s.controller, s.file)
		}
		if err := write(filepath.Join(t.dirIn(mount, task), s.file), s.value, s.optional); err != nil {
			return err
		}
	}
	return nil
}

// makeCpuset makes a group in the cpuset hierarchy. A new one there has no processors and
// no memory nodes, and nothing can run in it until it has: each level takes its parent's.
func makeCpuset(mount, dir string) error {
	if dir == mount {
		return nil
	}
	if err := makeCpuset(mount, filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(have)) != "" {
			continue
		}
		from, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), from, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) createV2(task string, r *specs.LinuxResources) error {
	mount := t.hierarchies["unified"]
	dir := t.dirIn(mount, task)
	// A controller works in a group only when every group above has passed it on.
	at := mount
	names := strings.Split(strings.Trim(strings.TrimPrefix(dir, mount), "/"), "/")
	if err := passControllers(at); err != nil {
		return err
	}
	for _, name := range names {
		at = filepath.Join(at, name)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := passControllers(at); err != nil {
			return err
		}
	}
	for _, s := range settingsV2(r) {
		if err := write(filepath.Join(dir, s.file), s.value, s.optional); err != nil {
			return err
		}
	}
	return nil
}

// passControllers makes the controllers a group has available to those in it.
func passControllers(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	enabled := strings.Fields(string(on))
	for _, c := range strings.Fields(string(have)) {
		if slices.Contains(enabled, c) || !slices.Contains([]string{"cpu", "cpuset", "io", "memory", "pids", "hugetlb"}, c) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644); err != nil {
			return fmt.Errorf("pass the %s controller on in %s: %w", c, dir, err)
		}
	}
	return nil
}

func write(file, value string, optional bool) error {
	// Not os.WriteFile: a file that does not exist must not be "created".
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", value, err)
	}
	return nil
}
