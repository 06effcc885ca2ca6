package spec

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	mebibyte = 1 << 20

	// The kernel's bounds of cpu.shares; the upper one is v1's, v2's weight has its own.
	minShares = 2
	maxShares = 262144

	defaultCPUPeriod = 100_000 // µs
	minCPUQuota      = 1_000   // µs, the least the kernel takes
)

// TaskCgroup is the cgroup of a whole task: an absolute path below every hierarchy's
// mount point, or the name of a slice under systemd.
func TaskCgroup(taskID string, host Host) string {
	if host.SystemdCgroup {
		return SlicePrefix(host.CgroupParent) + "-" + taskID + ".slice"
	}
	parent := host.CgroupParent
	if parent == "" {
		parent = "/ecs"
	}
	return path.Join("/", parent, taskID)
}

// SlicePrefix begins the names of tasks' slices under systemd, which has no paths of our
// choice: "ecstasks" for the default parent, "ecstasks_" and the parent's name for another,
// so that agents with different parents never take each other's slices for their own. A
// dash in a slice's name means one more level, so there is none in the prefix.
func SlicePrefix(cgroupParent string) string {
	parent := strings.Trim(path.Clean("/"+cgroupParent), "/")
	if parent == "" || parent == "ecs" {
		return "ecstasks"
	}
	return "ecstasks_" + strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' {
			return r
		}
		return '_'
	}, parent)
}

// ContainerCgroup is the cgroup of a container as a spec's cgroupsPath names it:
// "/ecs/<task>/<container>", or "slice:prefix:name" under systemd. A container whose name
// is that of a file in every cgroup directory ("tasks") gets an underscore after it.
func ContainerCgroup(t Task, container string, host Host) string {
	if host.SystemdCgroup {
		id, _ := ContainerID(t, container)
		return TaskCgroup(t.ID, host) + ":ecsd:" + id
	}
	leaf := container
	if slices.Contains([]string{"tasks", "notify_on_release", "release_agent"}, leaf) {
		leaf += "_"
	}
	return TaskCgroup(t.ID, host) + "/" + leaf
}

// TaskResources gives the limits of a task's own cgroup, the parent of its containers':
// the definition's cpu as a quota, its memory as a hard limit, and the host's limit of
// processes. It is never nil. CPU quotas are set here only: on cgroup v1 a container's
// must not be above its parent's, and ECS gives containers shares.
//
// The task's shares are what ECS subtracts from the instance for it, so that tasks
// compete by what they reserved: the task's cpu, else the sum of its containers'.
func TaskResources(t Task, host Host) *specs.LinuxResources {
	td := t.Definition
	res := &specs.LinuxResources{CPU: &specs.LinuxCPU{}}
	if units := int64(td.CPUUnits()); units > 0 {
		period := host.CPUPeriod
		if period == 0 {
			period = defaultCPUPeriod
		}
		quota := max(units*int64(period)/1024, minCPUQuota)
		res.CPU.Period, res.CPU.Quota = &period, &quota
		res.CPU.Shares = shares(units)
	} else {
		sum := int64(0)
		for _, c := range td.ContainerDefinitions {
			sum += max(int64(c.CPU), minShares)
		}
		res.CPU.Shares = shares(sum)
	}
	if mib := int64(td.MemoryMiB()); mib > 0 {
		limit := mib * mebibyte
		res.Memory = &specs.LinuxMemory{Limit: &limit}
	}
	res.Pids = pids(host.TaskPidsLimit)
	return res
}

// resources gives the limits of the container's own cgroup, without its devices.
func (r rendering) resources() (*specs.LinuxResources, error) {
	memory, err := r.memory()
	if err != nil {
		return nil, err
	}
	return &specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: shares(int64(r.c.CPU))},
		Memory: memory,
		Pids:   pids(r.host.PidsLimit),
	}, nil
}

// memory gives the memory limits. Swap in the spec is memory and swap together. Without
// maxSwap a container may use as much swap as memory, which is Docker's default.
func (r rendering) memory() (*specs.LinuxMemory, error) {
	c, p := r.c, r.params
	var m specs.LinuxMemory
	if c.MemoryReservation > 0 {
		reservation := int64(c.MemoryReservation) * mebibyte
		m.Reservation = &reservation
	}
	if p.MaxSwap != nil && c.Memory <= 0 {
		return nil, r.fail(CodeCannotCreateContainer, "linuxParameters.maxSwap",
			"you should always set the memory limit when using maxSwap: add memory to the container")
	}
	if c.Memory > 0 {
		limit := int64(c.Memory) * mebibyte
		m.Limit = &limit
		if r.host.SwapAccounting {
			swap := 2 * limit
			if p.MaxSwap != nil {
				swap = limit + max(int64(*p.MaxSwap), 0)*mebibyte
			}
			m.Swap = &swap
		}
	}
	// Swappiness counts only together with maxSwap (ECS), and cgroup v2 has none.
	if p.Swappiness != nil && p.MaxSwap != nil && !r.host.CgroupV2 {
		swappiness := uint64(min(max(*p.Swappiness, 0), 100))
		m.Swappiness = &swappiness
	}
	if m == (specs.LinuxMemory{}) {
		return nil, nil
	}
	return &m, nil
}

// shares gives CPU shares within the kernel's bounds; nothing asked for is the least.
func shares(units int64) *uint64 {
	s := uint64(min(max(units, minShares), maxShares))
	return &s
}

func pids(limit int64) *specs.LinuxPids {
	if limit <= 0 {
		return nil
	}
	return &specs.LinuxPids{Limit: &limit}
}
