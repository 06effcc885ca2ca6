package containerd

import (
	"testing"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// TestDefinitionFaults: what the OCI runtime says of a definition that cannot run is final,
// names the trouble, and leaves nothing behind.
func TestDefinitionFaults(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	image := m.pull(r)
	entry := func(command ...string) spec.ContainerDefinition {
		c := box("a")
		c.EntryPoint = command
		return c
	}
	nowhere := box("a", "pause")
	nowhere.SystemControls = []spec.SystemControl{{Namespace: "net.ipv4.no_such_setting", Value: "1"}}
	overFile := box("a", "pause")
	overFile.MountPoints = []spec.MountPoint{{SourceVolume: "v", ContainerPath: "/etc/passwd"}}
	for what, c := range map[string]spec.ContainerDefinition{
		"no such file":       entry("/no/such/file"),
		"not in the path":    entry("no-such-command"),
		"not executable":     entry("/etc/not-executable"),
		"a directory":        entry("/etc"),
		"no such sysctl":     nowhere,
		"volume over a file": overFile,
	} {
		t.Run(what, func(t *testing.T) {
			tk := task("none", c)
			tk.Definition.Volumes = []spec.Volume{{Name: "v"}}
			m.ok("create sandbox", r.CreateSandbox(t.Context(), tk))
			defer m.remove(r, tk)
			err := r.CreateContainer(t.Context(), tk, runtime.CreateConfig{Name: "a", Image: image})
			if err == nil {
				err = r.StartContainer(t.Context(), tk.ID, "a")
			}
			te, final := runtime.Final(err)
			if !final {
				t.Fatalf("start gives %v, want a *runtime.TaskError", err)
			}
			t.Log(te)
			seen := m.look(r, tk)
			if seen.Processes != 0 || seen.Containers["a"].Live() || seen.Containers["a"].Exited() {
				t.Errorf("after a start that failed: %+v", seen)
			}
		})
	}
}

// TestStartFaults: which complaints of runc and crun are the definition's fault.
func TestStartFaults(t *testing.T) {
	for text, final := range map[string]bool{
		`failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/nope": stat /nope: no such file or directory: unknown`: true,
		`OCI runtime create failed: runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown`:                                 true,
		`OCI runtime create failed: runc create failed: unable to start container process: exec: "/etc": permission denied: unknown`:                                                  true,
		`OCI runtime create failed: executable file ` + "`nope`" + ` not found in $PATH: No such file or directory: unknown`:                                                          true,
		`OCI runtime start failed: exec format error: unknown`: true,
		`OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting "/x" to rootfs at "/etc/passwd": mount /x:/etc/passwd (via /proc/self/fd/6), flags: 0x5000: not a directory: unknown`: true,
		`OCI runtime create failed: runc create failed: unable to start container process: error during container init: error setting rlimit type 7: operation not permitted: unknown`:                                                                       true,
		`failed to create shim task: context deadline exceeded: unknown`: false,
		`OCI runtime create failed: unable to retrieve OCI runtime error (open /run/containerd/x/log.json: no such file or directory): exec: "runc": executable not found`: false,
		`failed to start shim: start failed: fork/exec /usr/bin/containerd-shim-runc-v2: resource temporarily unavailable: unknown`:                                        false,
		`runc create failed: unable to apply cgroup configuration: write /sys/fs/cgroup/memory/x: no space left on device`:                                                 false,
		`ttrpc: closed: unknown`: false,
	} {
		err := startFault(textError(text))
		if _, got := runtime.Final(err); got != final {
			t.Errorf("final is %v, want %v: %s", got, final, text)
		}
	}
}

type textError string

func (e textError) Error() string { return string(e) }
