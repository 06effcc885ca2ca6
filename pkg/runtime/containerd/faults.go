package containerd

import (
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// definitionFaults are what runc and crun say when the definition or its image is to blame
// for a container that cannot start: trying again cannot help. What is not among them is
// taken for a fault of the machine. The texts are those of runc 1.1 to 1.3 and crun 1.8
// to 1.20.
var definitionFaults = []*regexp.Regexp{
	// No such command, or not one that can be run.
	regexp.MustCompile(`executable file .?not found in \$PATH|executable file .* not found`),
	regexp.MustCompile(`exec: "[^"]*": (stat|lstat|chdir) .*: no such file or directory`),
	regexp.MustCompile(`exec:? .*: (no such file or directory|permission denied|is a directory|not a directory|exec format error)`),
	regexp.MustCompile(`open executable: (No such file|Permission denied|Not a directory)`),
	regexp.MustCompile(`exec .*: (No such file or directory|Permission denied|Exec format error)`),
	regexp.MustCompile(`exec format error`),
	// No such directory to start in.
	regexp.MustCompile(`chdir to cwd .* failed`),
	regexp.MustCompile(`mkdir.*cwd|cannot chdir|chdir to`),
	// No such user.
	regexp.MustCompile(`unable to find (user|group)`),
	// A mount that cannot be made.
	regexp.MustCompile(`error mounting .*: (no such file or directory|not a directory|permission denied)`),
	regexp.MustCompile(`(mount|bind).*(no such file or directory|not a directory|No such file|Not a directory)`),
	regexp.MustCompile(`trying to mount a directory onto a file`),
	// Settings that this kernel does not know.
	regexp.MustCompile(`sysctl .* is not in a separate kernel namespace`),
	regexp.MustCompile(`(write|open) (sysctl key|/proc/sys/)|sysctl.*(invalid argument|no such file)`),
	regexp.MustCompile(`error setting rlimit`),
	regexp.MustCompile(`minimum memory limit|memory limit too low|container init was OOM-killed`),
}

// startFault tells the definition's faults from the machine's, by what the OCI runtime
// printed. nil is nil.
func startFault(err error) error {
	if err == nil || errdefs.IsUnavailable(err) || errdefs.IsDeadlineExceeded(err) || errdefs.IsCanceled(err) {
		return err
	}
	text := err.Error()
	for _, fault := range definitionFaults {
		if fault.MatchString(text) {
			return runtime.NewTaskError(spec.CodeCannotStartContainer, err, "%s", startMessage(text))
		}
	}
	return err
}

// startMessage is the part of an OCI runtime's complaint that says something.
func startMessage(text string) string {
	for _, prefix := range []string{"unable to start container process: ", "OCI runtime create failed: ", "OCI runtime start failed: "} {
		if _, after, ok := strings.Cut(text, prefix); ok {
			text = after
			break
		}
	}
	for _, suffix := range []string{": unknown", ": failed precondition"} {
		text = strings.TrimSuffix(text, suffix)
	}
	return text
}

// shimWentAway reports whether a process could not be made because the task's shim is just
// ending (a task's containers share one, which ends with the last of them), or because one
// was killed and containerd has not yet forgotten what it ran: it then says of the same
// container that it has no task, and that one exists.
func shimWentAway(err error) bool {
	text := err.Error()
	return errdefs.IsAlreadyExists(err) ||
		strings.Contains(text, "ttrpc: closed") ||
		strings.Contains(text, "ttrpc: server closed") ||
		strings.Contains(text, "shim") && strings.Contains(text, "connection refused")
}
