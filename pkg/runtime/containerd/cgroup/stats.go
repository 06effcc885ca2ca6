package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ecsd/pkg/runtime"
)

// OOMKills is how many processes of the container's group the kernel has killed for lack
// of memory. The counter belongs to the group: it begins at 0 with each run, and is gone
// when the OCI runtime has removed the group (then 0). systemd removes a group the moment
// it is empty: see TaskOOMKills.
func (t *Tree) OOMKills(task, leaf string) (int, error) {
	file := filepath.Join(t.dir(task, "memory"), leaf, "memory.events")
	if t.mode == V1 {
		file = filepath.Join(t.dir(task, "memory"), leaf, "memory.oom_control")
	}
	values, err := readKeyed(file)
	return int(values["oom_kill"]), err
}

// TaskOOMKills is how many processes of a task the kernel has killed for lack of memory
// since its group was made, in all its containers and in all their runs: on v2 a group
// counts for those below it, and outlives them. On v1 it does not: always 0.
func (t *Tree) TaskOOMKills(task string) (int, error) {
	if t.mode == V1 {
		return 0, nil
	}
	values, err := readKeyed(filepath.Join(t.dir(task), "memory.events"))
	return int(values["oom_kill"]), err
}

// Stats reads the figures of a container's group. What the kernel does not offer is 0;
// an absent group gives zero figures.
func (t *Tree) Stats(task, leaf string) (runtime.Stats, error) {
	if t.mode == V1 {
		return t.statsV1(task, leaf)
	}
	return t.statsV2(task, leaf)
}

func (t *Tree) statsV1(task, leaf string) (runtime.Stats, error) {
	var s runtime.Stats
	r := reader{}
	acct := filepath.Join(t.dir(task, "cpuacct"), leaf)
	s.CPUUsage = time.Duration(r.number(acct, "cpuacct.usage"))
	cpu := r.keyed(filepath.Join(t.dir(task, "cpu"), leaf), "cpu.stat")
	s.CPUPeriods, s.CPUThrottledPeriods = cpu["nr_periods"], cpu["nr_throttled"]
	s.CPUThrottled = time.Duration(cpu["throttled_time"])

	memory := filepath.Join(t.dir(task, "memory"), leaf)
	s.MemoryUsage = r.number(memory, "memory.usage_in_bytes")
	stat := r.keyed(memory, "memory.stat")
	s.MemoryRSS = stat["total_rss"]
	s.MemoryWorkingSet = less(s.MemoryUsage, stat["total_inactive_file"])
	// v1 says "no limit" with the largest multiple of a page.
	if limit := r.number(memory, "memory.limit_in_bytes"); limit < 1<<62 {
		s.MemoryLimit = limit
	}
	s.OOMKills = r.keyed(memory, "memory.oom_control")["oom_kill"]
	s.Processes = r.number(filepath.Join(t.dir(task, "pids"), leaf), "pids.current")

	blkio := r.text(filepath.Join(t.dir(task, "blkio"), leaf), "blkio.throttle.io_service_bytes")
	for line := range strings.Lines(blkio) {
		f := strings.Fields(line) // "259:0 Read 4096"
		if len(f) != 3 {
			continue
		}
		n, _ := strconv.ParseUint(f[2], 10, 64)
		switch f[1] {
		case "Read":
			s.ReadBytes += n
		case "Write":
			s.WriteBytes += n
		}
	}
	return s, r.err
}

func (t *Tree) statsV2(task, leaf string) (runtime.Stats, error) {
	var s runtime.Stats
	r := reader{}
	dir := filepath.Join(t.dir(task), leaf)
	cpu := r.keyed(dir, "cpu.stat")
	s.CPUUsage = time.Duration(cpu["usage_usec"]) * time.Microsecond
	s.CPUPeriods, s.CPUThrottledPeriods = cpu["nr_periods"], cpu["nr_throttled"]
	s.CPUThrottled = time.Duration(cpu["throttled_usec"]) * time.Microsecond

	s.MemoryUsage = r.number(dir, "memory.current")
	stat := r.keyed(dir, "memory.stat")
	s.MemoryRSS = stat["anon"]
	s.MemoryWorkingSet = less(s.MemoryUsage, stat["inactive_file"])
	s.MemoryLimit = r.number(dir, "memory.max") // "max" reads as 0
	s.OOMKills = r.keyed(dir, "memory.events")["oom_kill"]
	s.Processes = r.number(dir, "pids.current")

	for line := range strings.Lines(r.text(dir, "io.stat")) {
		for _, f := range strings.Fields(line) { // "259:0 rbytes=4096 wbytes=0 …"
			key, value, _ := strings.Cut(f, "=")
			n, _ := strconv.ParseUint(value, 10, 64)
			switch key {
			case "rbytes":
				s.ReadBytes += n
			case "wbytes":
				s.WriteBytes += n
			}
		}
	}
	return s, r.err
}

func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// reader reads small files and keeps the first error that is not an absence.
type reader struct{ err error }

func (r *reader) text(dir, file string) string {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil && !gone(err) && r.err == nil {
		r.err = err
	}
	return string(data)
}

func (r *reader) number(dir, file string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSpace(r.text(dir, file)), 10, 64)
	return n
}

func (r *reader) keyed(dir, file string) map[string]uint64 {
	values, err := readKeyed(filepath.Join(dir, file))
	if err != nil && r.err == nil {
		r.err = err
	}
	return values
}

// readKeyed reads a file of "key number" lines. An absent file is empty.
func readKeyed(file string) (map[string]uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		if gone(err) {
			return nil, nil
		}
		return nil, err
	}
	values := map[string]uint64{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil {
			values[key] = n
		}
	}
	return values, nil
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
