package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ulimitNames are the limits that a definition can set (ECS UlimitName).
var ulimitNames = []string{
	"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
	"nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// DefaultUlimits are the limits of a container that sets none: open files 32768 soft and
// 65536 hard, as the ECS-optimized machine images have it. hard is the agent's own hard
// limit of open files (RLIMIT_NOFILE), above which it may not be able to go.
func DefaultUlimits(hard uint64) []Ulimit {
	return []Ulimit{{
		Name:      "nofile",
		SoftLimit: int64(min(32768, hard)),
		HardLimit: int64(min(65536, hard)),
	}}
}

// rlimits gives the definition's ulimits, and the host's defaults for those it leaves
// out, by name. Of two of one name the later counts; -1 is unlimited.
func (r rendering) rlimits() ([]specs.POSIXRlimit, error) {
	limits := map[string]Ulimit{}
	for _, u := range r.host.Ulimits {
		limits[u.Name] = u
	}
	for _, u := range r.c.Ulimits {
		if !slices.Contains(ulimitNames, u.Name) {
			return nil, r.fail(CodeCannotCreateContainer, "ulimits", "invalid ulimit type: %s: use one of %s", u.Name, strings.Join(ulimitNames, ", "))
		}
		if soft, hard := uint64(u.SoftLimit), uint64(u.HardLimit); soft > hard {
			return nil, r.fail(CodeCannotCreateContainer, "ulimits",
				"ulimit soft limit must be less than or equal to hard limit: %s has %d > %d", u.Name, u.SoftLimit, u.HardLimit)
		}
		limits[u.Name] = u
	}
	var rlimits []specs.POSIXRlimit
	for _, name := range ulimitNames {
		if u, ok := limits[name]; ok {
			// -1 becomes 2^64-1, which is RLIM_INFINITY.
			rlimits = append(rlimits, specs.POSIXRlimit{
				Type: "RLIMIT_" + strings.ToUpper(name), Soft: uint64(u.SoftLimit), Hard: uint64(u.HardLimit),
			})
		}
	}
	return rlimits, nil
}
