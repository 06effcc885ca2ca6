package spec

import (
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"
)

// On this machine, and with any capabilities, the profile is what Docker makes of it.
func TestSeccompProfileAgainstDocker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bounding := rapid.SliceOfDistinct(rapid.SampledFrom(allCapabilities), rapid.ID[string]).Draw(t, "bounding")
		want, err := seccomp.GetDefaultProfile(&specs.Spec{
			Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: bounding}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := seccompProfile("", SeccompAll, bounding); !reflect.DeepEqual(got, want) {
			t.Fatalf("with %v:\ngot  %+v\nwant %+v", bounding, got, want)
		}
	})
}

func TestSeccompProfile(t *testing.T) {
	allows := func(p *specs.LinuxSeccomp, call string) bool {
		return slices.ContainsFunc(p.Syscalls, func(r specs.LinuxSyscall) bool {
			return r.Action == specs.ActAllow && len(r.Args) == 0 && slices.Contains(r.Names, call)
		})
	}
	for _, arch := range []string{"amd64", "arm64"} {
		p := seccompProfile(arch, SeccompAll, defaultCapabilities)
		if p.DefaultAction != specs.ActErrno {
			t.Errorf("%s: default action %s", arch, p.DefaultAction)
		}
		for call, want := range map[string]bool{
			"openat": true, "execve": true, "chroot": true, "futex": true,
			"mount": false, "bpf": false, "reboot": false, "init_module": false, "kexec_load": false, "open_by_handle_at": false,
			"arch_prctl": arch == "amd64",
		} {
			if got := allows(p, call); got != want {
				t.Errorf("%s: %s allowed: %v, want %v", arch, call, got, want)
			}
		}
		if p := seccompProfile(arch, SeccompAll, append(DefaultCapabilities(), "CAP_SYS_ADMIN")); !allows(p, "mount") {
			t.Errorf("%s: mount is refused in spite of CAP_SYS_ADMIN", arch)
		}
		if p := seccompProfile(arch, SeccompNative, nil); len(p.Architectures) != 1 || allows(p, "chroot") {
			t.Errorf("%s: native has %v, chroot without its capability: %v", arch, p.Architectures, allows(p, "chroot"))
		}
	}
	if seccompArch[runtime.GOARCH] == "" {
		t.Errorf("no architectures for %s", runtime.GOARCH)
	}
}
