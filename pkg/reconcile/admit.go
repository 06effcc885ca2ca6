package reconcile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ecsd/pkg/spec"
)

// Capacity is what a host has to give to tasks. The zero Capacity gives without bound.
type Capacity struct {
	CPU    int // units, 1024 a core; 0: not counted
	Memory int // MiB; 0: not counted
	// Reserved are host ports that no task may have, as "22/tcp".
	Reserved []string
}

// Claim is what one task takes from the host.
type Claim struct {
	Task   string   // its id
	Name   string   // what to call it: its family
	CPU    int      // units
	Memory int      // MiB
	Ports  []string // static host ports, as "8080/tcp"
}

// ClaimOf is what a task takes: cpu and memory of the task, or else the sum over its
// containers, of memory what is reserved and else the limit, as the Amazon agent counts;
// and the host ports it names. Ports that the host chooses are not counted.
func ClaimOf(t spec.Task) Claim {
	c := Claim{Task: t.ID, Name: t.Family}
	c.CPU, _ = strconv.Atoi(t.Definition.CPU)       // defaulted and valid: empty or a number
	c.Memory, _ = strconv.Atoi(t.Definition.Memory) // the same
	cpu, memory := 0, 0
	for _, d := range t.Definition.ContainerDefinitions {
		cpu += d.CPU
		if d.MemoryReservation > 0 {
			memory += d.MemoryReservation
		} else {
			memory += d.Memory
		}
		for _, m := range d.PortMappings {
			c.Ports = append(c.Ports, staticPorts(t.Definition.NetworkMode, m)...)
		}
	}
	if c.CPU == 0 {
		c.CPU = cpu
	}
	if c.Memory == 0 {
		c.Memory = memory
	}
	return c
}

// staticPorts lists the host ports that a mapping names.
func staticPorts(mode string, m spec.PortMapping) []string {
	protocol := strings.ToLower(m.Protocol)
	if protocol == "" {
		protocol = "tcp"
	}
	port := func(n int) string { return strconv.Itoa(n) + "/" + protocol }
	switch mode {
	case "host": // the container's port is the host's
		if from, to, ok := portRange(m.ContainerPortRange); ok {
			var out []string
			for n := from; n <= to; n++ {
				out = append(out, port(n))
			}
			return out
		}
		if m.HostPort > 0 {
			return []string{port(m.HostPort)}
		}
		if m.ContainerPort > 0 {
			return []string{port(m.ContainerPort)}
		}
	case "", "bridge":
		if m.HostPort > 0 {
			return []string{port(m.HostPort)}
		}
	}
	return nil
}

// portRange reads "8000-8010".
func portRange(s string) (from, to int, ok bool) {
	a, b, found := strings.Cut(s, "-")
	if !found {
		return 0, 0, false
	}
	from, errA := strconv.Atoi(a)
	to, errB := strconv.Atoi(b)
	return from, to, errA == nil && errB == nil && from > 0 && from <= to && to <= 65535
}

// Admit says whether a task fits on the host beside what is held there: "" when it does,
// else what it waits for, in words an operator can act on. It looks at that task alone, so
// one that does not fit holds up no other.
func Admit(host Capacity, held []Claim, c Claim) (blocked string) {
	cpu, memory := 0, 0
	owner := map[string]string{}
	for _, h := range held {
		if h.Task == c.Task {
			continue
		}
		cpu += h.CPU
		memory += h.Memory
		for _, p := range h.Ports {
			owner[p] = h.Name
		}
	}
	var why []string
	short := func(what string, need, has, taken int) {
		if has <= 0 || need == 0 || need <= has-taken {
			return
		}
		if need > has {
			why = append(why, fmt.Sprintf("needs %d %s, which can never fit: the host has %d", need, what, has))
			return
		}
		why = append(why, fmt.Sprintf("needs %d more %s: %d of %d are taken%s", need-max(0, has-taken), what, taken, has, by(held, c.Task)))
	}
	short("CPU units", c.CPU, host.CPU, cpu)
	short("MiB of memory", c.Memory, host.Memory, memory)
	for _, p := range c.Ports {
		switch {
		case slices.Contains(host.Reserved, p):
			why = append(why, fmt.Sprintf("needs host port %s, which is reserved on this host", p))
		case owner[p] != "":
			why = append(why, fmt.Sprintf("needs host port %s, which %s holds", p, owner[p]))
		}
	}
	return strings.Join(why, "; ")
}

// by names the families that hold most, to say whom to look at.
func by(held []Claim, but string) string {
	count := map[string]int{}
	var names []string
	for _, h := range held {
		if h.Task == but {
			continue
		}
		if count[h.Name] == 0 {
			names = append(names, h.Name)
		}
		count[h.Name]++
	}
	if len(names) == 0 {
		return ""
	}
	slices.SortFunc(names, func(a, b string) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return strings.Compare(a, b)
	})
	rest := ""
	if len(names) > 3 {
		rest = fmt.Sprintf(" and %d more", len(names)-3)
		names = names[:3]
	}
	return " by " + strings.Join(names, ", ") + rest
}
