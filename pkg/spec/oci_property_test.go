package spec

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"
)

// Whatever the definition, image and host: OCI gives a spec or an *OCIError, the same one
// each time, without touching its arguments; and what it gives is of one piece.
func TestOCIOfAnything(t *testing.T) {
	specsMade, valid := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		task, img, host := anyTask.Draw(t, "task"), anyImage.Draw(t, "image"), anyHost.Draw(t, "host")
		before := asJSON(t, task, img, host)
		s, err := OCI(task, "web", img, host)
		if asJSON(t, task, img, host) != before {
			t.Fatal("OCI changed its arguments")
		}
		again, errAgain := OCI(task, "web", img, host)
		if asJSON(t, s, err) != asJSON(t, again, errAgain) {
			t.Fatal("OCI gave two answers to one question")
		}
		if err != nil {
			oe, ok := AsOCIError(err)
			if !ok || s != nil || oe.Code == "" || oe.Field == "" || oe.Message == "" {
				t.Fatalf("error %#v with spec %v", err, s)
			}
			// What is left when the definition is valid is the image's doing, or the host's.
			byDefinition := oe.Code == CodeCannotCreateContainer && oe.Field != "image" && !strings.HasSuffix(oe.Field, ".command")
			if byDefinition && len(Validate(task.Definition.Defaulted())) == 0 {
				t.Fatalf("Validate accepts what OCI refuses: %v", err)
			}
			return
		}
		specsMade++
		if len(Validate(task.Definition.Defaulted())) == 0 {
			valid++
		}
		checkSpec(t, s, task, host)
		// What was given away is not shared with what is given next.
		scribble(s)
		if third, _ := OCI(task, "web", img, host); asJSON(t, third) != asJSON(t, again) {
			t.Fatal("a spec shares memory with the arguments or with another spec")
		}
	})
	if valid == 0 || specsMade < 10 {
		t.Errorf("only %d definitions were valid and %d became specs: the generator is too wild", valid, specsMade)
	}
}

func checkSpec(t *rapid.T, s *specs.Spec, task Task, host Host) {
	c, _ := task.Container("web")
	if s.Version != OCIVersion || len(s.Process.Args) == 0 || s.Process.Args[0] == "" || !path.IsAbs(s.Process.Cwd) {
		t.Fatalf("version %s, args %q, cwd %q", s.Version, s.Process.Args, s.Process.Cwd)
	}
	unique := func(what string, n int, name func(int) string) {
		seen := map[string]bool{}
		for i := range n {
			if seen[name(i)] {
				t.Fatalf("%s %s is there twice", what, name(i))
			}
			seen[name(i)] = true
		}
	}
	unique("mount", len(s.Mounts), func(i int) string { return s.Mounts[i].Destination })
	unique("namespace", len(s.Linux.Namespaces), func(i int) string { return string(s.Linux.Namespaces[i].Type) })
	unique("rlimit", len(s.Process.Rlimits), func(i int) string { return s.Process.Rlimits[i].Type })
	unique("variable", len(s.Process.Env), func(i int) string { n, _, _ := strings.Cut(s.Process.Env[i], "="); return n })
	for name, value := range host.Env {
		if !slices.Contains(s.Process.Env, name+"="+value) {
			t.Fatalf("%s of the host is not in %q", name, s.Process.Env)
		}
	}
	for i, m := range s.Mounts {
		if !path.IsAbs(m.Destination) || path.Clean(m.Destination) != m.Destination || m.Destination == "/" {
			t.Fatalf("mount at %q", m.Destination)
		}
		for _, earlier := range s.Mounts[:i] {
			if strings.HasPrefix(earlier.Destination, m.Destination+"/") && !strings.HasPrefix(earlier.Destination, "/etc/") {
				t.Fatalf("the mount at %s hides the earlier one at %s", m.Destination, earlier.Destination)
			}
		}
	}
	for _, l := range s.Process.Rlimits {
		if l.Soft > l.Hard {
			t.Fatalf("%+v", l)
		}
	}
	hasNet := slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	for name := range s.Linux.Sysctl {
		if strings.HasPrefix(name, "net.") && !hasNet {
			t.Fatalf("%s on the host's network", name)
		}
	}
	caps := s.Process.Capabilities
	available := host.Capabilities
	if len(available) == 0 {
		available = allCapabilities
	}
	for _, one := range caps.Bounding {
		if !slices.Contains(available, one) {
			t.Fatalf("%s is more than the agent has", one)
		}
	}
	if root := s.Process.User.UID == 0; root != (caps.Effective != nil) || len(caps.Inheritable)+len(caps.Ambient) > 0 {
		t.Fatalf("uid %d with %+v", s.Process.User.UID, caps)
	}
	privileged := isTrue(c.Privileged)
	if privileged == (s.Linux.Seccomp != nil) || privileged == (len(s.Linux.MaskedPaths) > 0) || privileged == (len(s.Linux.ReadonlyPaths) > 0) {
		t.Fatalf("privileged is %v and seccomp %v", privileged, s.Linux.Seccomp != nil)
	}
	if deny := s.Linux.Resources.Devices[0]; deny.Allow != privileged || deny.Access != "rwm" || deny.Major != nil {
		t.Fatalf("first device rule %+v", deny)
	}
	if mem := s.Linux.Resources.Memory; mem != nil && mem.Swap != nil && (mem.Limit == nil || *mem.Swap < *mem.Limit) {
		t.Fatal("memory and swap together are less than memory")
	}
	if !strings.Contains(s.Linux.CgroupsPath, task.ID) {
		t.Fatalf("cgroup %s does not name the task", s.Linux.CgroupsPath)
	}
}

// scribble writes into every slice and map of a spec that a caller might change.
func scribble(s *specs.Spec) {
	s.Process.Args[0] = "scribbled"
	for i := range s.Process.Env {
		s.Process.Env[i] = "scribbled"
	}
	for _, set := range [][]string{s.Process.Capabilities.Bounding, s.Process.Capabilities.Effective, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths} {
		for i := range set {
			set[i] = "scribbled"
		}
	}
	for i := range s.Mounts {
		for j := range s.Mounts[i].Options {
			s.Mounts[i].Options[j] = "scribbled"
		}
	}
	for name := range s.Linux.Sysctl {
		s.Linux.Sysctl[name] = "scribbled"
	}
	if s.Linux.Seccomp != nil {
		for i := range s.Linux.Seccomp.Syscalls {
			s.Linux.Seccomp.Syscalls[i].Names[0] = "scribbled"
		}
	}
	for i := range s.Linux.Resources.Devices {
		if major := s.Linux.Resources.Devices[i].Major; major != nil {
			*major = -1
		}
	}
}

func asJSON(t *rapid.T, values ...any) string {
	b, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Generators. Most values are good ones, so that most definitions become specs.

func oneOf[T any](values ...T) *rapid.Generator[T] { return rapid.SampledFrom(values) }

func maybe[T any](g *rapid.Generator[T]) *rapid.Generator[*T] { return rapid.Ptr(g, true) }

// rarely gives a bad value once in a while.
func rarely[T any](good []T, bad ...T) *rapid.Generator[T] {
	return rapid.Custom(func(t *rapid.T) T {
		if rapid.IntRange(0, 299).Draw(t, "bad") == 7 { // rapid prefers small numbers
			return oneOf(bad...).Draw(t, "value")
		}
		return oneOf(good...).Draw(t, "value")
	})
}

// seldom gives nothing three times out of four.
func seldom[T any](g *rapid.Generator[T]) *rapid.Generator[[]T] {
	return rapid.OneOf(rapid.Just[[]T](nil), rapid.Just[[]T](nil), rapid.Just[[]T](nil), few(g))
}

func few[T any](g *rapid.Generator[T]) *rapid.Generator[[]T] { return rapid.SliceOfN(g, 0, 3) }

var (
	anyBool = rapid.Bool()
	anyWord = rarely([]string{"a", "b c", "--flag", "é"}, "", "\x00")
	anyPath = rarely([]string{"/data", "/data/inner", "/data/inner/", "/etc/hosts", "/dev/shm", "/dev", "/run", "/tmp", "/sys/fs/cgroup"}, "relative", "/", "/a/../..", "")
	anyName = rarely([]string{"PATH", "HOME", "A", "TERM", "HOSTNAME"}, "", "A=B")
)

var anyParameters = rapid.Custom(func(t *rapid.T) LinuxParameters {
	capability := rarely([]string{"ALL", "NET_ADMIN", "CHOWN", "cap_kill", "SYS_ADMIN"}, "NONE_SUCH")
	return LinuxParameters{
		Capabilities: maybe(rapid.Custom(func(t *rapid.T) KernelCapabilities {
			return KernelCapabilities{Add: few(capability).Draw(t, "add"), Drop: few(capability).Draw(t, "drop")}
		})).Draw(t, "capabilities"),
		Devices: few(rapid.Custom(func(t *rapid.T) Device {
			return Device{
				HostPath:      rarely([]string{"/dev/null", "/dev/snd", "/dev/snd/"}, "/dev/none", "").Draw(t, "host"),
				ContainerPath: oneOf("", "/dev/x").Draw(t, "container"),
				Permissions:   few(rarely([]string{"read", "write", "mknod"}, "all")).Draw(t, "permissions"),
			}
		})).Draw(t, "devices"),
		InitProcessEnabled: maybe(anyBool).Draw(t, "init"),
		SharedMemorySize:   maybe(rarely([]int{1, 64, 1 << 20}, -1, 0)).Draw(t, "shm"),
		Tmpfs: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Tmpfs {
			return Tmpfs{
				ContainerPath: anyPath.Draw(t, "path"), Size: rarely([]int{1, 1 << 20}, 0).Draw(t, "size"),
				MountOptions: few(rarely([]string{"exec", "ro", "mode=0700", "defaults", "mpol=bind:0,1"}, "bind", "mode=", "uid=1,exec")).Draw(t, "options"),
			}
		}), 0, 1).Draw(t, "tmpfs"),
		MaxSwap:    maybe(rarely([]int{0, 1, 1 << 20}, -1)).Draw(t, "swap"),
		Swappiness: maybe(rarely([]int{0, 60, 100}, -1, 101)).Draw(t, "swappiness"),
	}
})

func anyContainer(name string) *rapid.Generator[ContainerDefinition] {
	return rapid.Custom(func(t *rapid.T) ContainerDefinition {
		return ContainerDefinition{
			Name:              name,
			Image:             "example.com/web",
			CPU:               rarely([]int{0, 1, 128, 512}, 1<<20).Draw(t, "cpu"),
			Memory:            rarely([]int{64, 128}, 0, 1<<20).Draw(t, "memory"),
			MemoryReservation: rarely([]int{0, 6, 32}, 1<<20).Draw(t, "reservation"),
			EntryPoint:        few(anyWord).Draw(t, "entryPoint"),
			Command:           few(anyWord).Draw(t, "command"),
			Environment: few(rapid.Custom(func(t *rapid.T) KeyValuePair {
				return KeyValuePair{Name: anyName.Draw(t, "name"), Value: rarely([]string{"", "a=b"}, "\x00", strings.Repeat("x", maxArgument)).Draw(t, "value")}
			})).Draw(t, "environment"),
			MountPoints: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) MountPoint {
				return MountPoint{SourceVolume: rarely([]string{"data"}, "none").Draw(t, "volume"), ContainerPath: anyPath.Draw(t, "path"), ReadOnly: maybe(anyBool).Draw(t, "ro")}
			}), 0, 2).Draw(t, "mounts"),
			VolumesFrom: seldom(rapid.Custom(func(t *rapid.T) VolumeFrom {
				return VolumeFrom{SourceContainer: rarely([]string{"other"}, "web", "none").Draw(t, "container"), ReadOnly: maybe(anyBool).Draw(t, "ro")}
			})).Draw(t, "volumesFrom"),
			LinuxParameters:        maybe(anyParameters).Draw(t, "linux"),
			Hostname:               rarely([]string{"", "web-1"}, strings.Repeat("h", 65)).Draw(t, "hostname"),
			User:                   rarely([]string{"", "app", "0:0", "1000:audio", "77"}, "ghost", "a:b:c", "-1").Draw(t, "user"),
			WorkingDirectory:       rarely([]string{"", "/srv", "/a/../b"}, "srv", "/proc/self/fd/7").Draw(t, "cwd"),
			Privileged:             maybe(anyBool).Draw(t, "privileged"),
			ReadonlyRootFilesystem: maybe(anyBool).Draw(t, "readonly"),
			DockerSecurityOptions:  few(rarely([]string{"no-new-privileges", "apparmor:unconfined", "label:disable", "no-new-privileges=false"}, "apparmor:x", "label:type:t", "label:x", "foo", "")).Draw(t, "security"),
			PseudoTerminal:         maybe(anyBool).Draw(t, "terminal"),
			Ulimits: few(rapid.Custom(func(t *rapid.T) Ulimit {
				return Ulimit{Name: rarely([]string{"nofile", "core"}, "none").Draw(t, "name"), SoftLimit: rapid.Int64Range(0, 9).Draw(t, "soft"), HardLimit: oneOf[int64](9, -1, 10).Draw(t, "hard")}
			})).Draw(t, "ulimits"),
			SystemControls: few(rapid.Custom(func(t *rapid.T) SystemControl {
				return SystemControl{Namespace: rarely([]string{"kernel.sem", "fs.mqueue.msg_max"}, "net.core.somaxconn", "kernel.core_pattern", "").Draw(t, "name"), Value: "1"}
			})).Draw(t, "sysctls"),
		}
	})
}

var anyTask = rapid.Custom(func(t *rapid.T) Task {
	return Task{ID: testTask, Definition: TaskDefinition{
		Family:               "web",
		NetworkMode:          oneOf("bridge", "host", "none", "awsvpc").Draw(t, "network"),
		PIDMode:              oneOf("", "", "task", "host").Draw(t, "pid"),
		IPCMode:              oneOf("", "", "task", "none").Draw(t, "ipc"),
		Volumes:              []Volume{{Name: "data"}},
		CPU:                  oneOf("", "1024").Draw(t, "cpu"),
		ContainerDefinitions: []ContainerDefinition{anyContainer("web").Draw(t, "web"), {Name: "other", Image: "example.com/other", Memory: 64, MountPoints: []MountPoint{{SourceVolume: "data", ContainerPath: "/data"}}}},
	}}
})

var anyImage = rapid.Custom(func(t *rapid.T) ImageConfig {
	return ImageConfig{
		Entrypoint: few(anyWord).Draw(t, "entrypoint"),
		Cmd:        few(anyWord).Draw(t, "cmd"),
		Env:        few(oneOf("PATH=/x", "A=1", "BROKEN", "=x", "")).Draw(t, "env"),
		WorkingDir: rarely([]string{"", "/usr/src"}, "src").Draw(t, "cwd"),
		User:       rarely([]string{"", "app"}, "ghost").Draw(t, "user"),
		Volumes:    few(rarely([]string{"/data", "/cache"}, "/")).Draw(t, "volumes"),
		Passwd:     []byte(testPasswd), Group: []byte(testGroup),
	}
})

var anyHost = rapid.Custom(func(t *rapid.T) Host {
	systemd := anyBool.Draw(t, "systemd")
	return Host{
		Arch: oneOf("", "amd64", "arm64", "riscv64", "unheard-of").Draw(t, "arch"), Hostname: oneOf("", "node").Draw(t, "hostname"),
		CgroupV2: systemd || anyBool.Draw(t, "v2"), SystemdCgroup: systemd,
		NetworkNamespace: rarely([]string{"/netns"}, "").Draw(t, "netns"),
		PIDNamespace:     rarely([]string{"/pidns"}, "").Draw(t, "pidns"),
		IPCNamespace:     rarely([]string{"/ipcns"}, "").Draw(t, "ipcns"),
		ShmPath:          oneOf("", "/shm").Draw(t, "shm"),
		Etc:              EtcFiles{Hosts: oneOf("", "/hosts").Draw(t, "hosts")},
		Volumes:          map[string]string{"data": "/volumes/data"},
		ImageVolumes:     map[string]map[string]string{"web": {"/cache": "/image/0", "/data": "/image/1"}, "other": {"/data": "/image/2"}},
		Devices: map[string]HostDevice{
			"/dev/null": {Type: "c", Major: 1, Minor: 3, Mode: 0o666}, "/dev/snd/a": {Type: "c", Major: 9}, "/dev/snd/b": {Type: "c", Major: 9, Minor: 1}, "/dev/console": {Type: "c"},
		},
		AppArmorProfile: oneOf("", "profile").Draw(t, "apparmor"),
		SeccompArches:   oneOf("", SeccompAll, SeccompNative).Draw(t, "seccomp"),
		Capabilities:    oneOf(nil, AllCapabilities(), without(AllCapabilities(), "CAP_SYS_ADMIN")).Draw(t, "capabilities"),
		InitBinary:      rarely([]string{"/init"}, "").Draw(t, "init"),
		SwapAccounting:  anyBool.Draw(t, "swap"),
		PidsLimit:       rapid.Int64Range(-1, 10).Draw(t, "pids"),
		Ulimits:         []Ulimit{{Name: "nofile", SoftLimit: 5, HardLimit: 9}},
		Env:             map[string]string{"SECRET": "x", "A": "last"},
	}
})
