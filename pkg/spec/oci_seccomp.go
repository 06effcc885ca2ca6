package spec

import (
	"runtime"
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Values of Host.SeccompArches: for which of the machine's instruction sets the seccomp
// profile has rules. A system call of any other set kills the process, so SeccompNative
// kills 32-bit programs on a 64-bit machine; it makes a container start some 10 ms sooner.
const (
	SeccompAll    = "all"
	SeccompNative = "native"
)

// seccompProfile gives Docker's default profile, narrowed to an architecture and to what
// the bounding set of a container allows: some calls are let through only together with
// a capability. The profile's conditions on the kernel's version (at most 4.8) are taken
// as met.
func seccompProfile(arch, arches string, bounding []string) *specs.LinuxSeccomp {
	if arch == "" {
		arch = runtime.GOARCH
	}
	profile := seccomp.DefaultProfile()
	out := profile.LinuxSeccomp
	for _, a := range profile.ArchMap {
		if a.Arch != seccompArch[arch] {
			continue
		}
		out.Architectures = []specs.Arch{a.Arch}
		if arches != SeccompNative {
			out.Architectures = append(out.Architectures, a.SubArches...)
		}
	}
	for _, rule := range profile.Syscalls {
		if rule.Includes != nil && !included(*rule.Includes, arch, bounding) {
			continue
		}
		if rule.Excludes != nil && excluded(*rule.Excludes, arch, bounding) {
			continue
		}
		out.Syscalls = append(out.Syscalls, rule.LinuxSyscall)
	}
	return &out
}

// included reports whether a rule's conditions are all met.
func included(f seccomp.Filter, arch string, bounding []string) bool {
	if len(f.Arches) > 0 && !slices.Contains(f.Arches, filterArch(arch)) {
		return false
	}
	for _, c := range f.Caps {
		if !slices.Contains(bounding, c) {
			return false
		}
	}
	return true
}

// excluded reports whether any of a rule's exceptions holds.
func excluded(f seccomp.Filter, arch string, bounding []string) bool {
	if slices.Contains(f.Arches, filterArch(arch)) || f.MinKernel != nil {
		return true
	}
	return slices.ContainsFunc(f.Caps, func(c string) bool { return slices.Contains(bounding, c) })
}

// filterArch is the name that the profile's conditions have for a GOARCH.
func filterArch(arch string) string {
	switch arch {
	case "386":
		return "x86"
	case "loong64":
		return "loongarch64"
	}
	return arch
}

// seccompArch is the name that seccomp has for a GOARCH, for those with an entry in the
// profile's map of architectures. For others the runtime takes the native one.
var seccompArch = map[string]specs.Arch{
	"amd64":   specs.ArchX86_64,
	"arm64":   specs.ArchAARCH64,
	"mips64":  specs.ArchMIPS64,
	"s390x":   specs.ArchS390X,
	"riscv64": specs.ArchRISCV64,
	"loong64": specs.ArchLOONGARCH64,
}
