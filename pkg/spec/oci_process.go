package spec

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Where the init of a container with initProcessEnabled is mounted. InitPath is on the
// container's own /dev, so it leaves nothing behind in the image; a container that
// mounts a /dev of its own gets it at InitPathOwnDev instead.
const (
	InitPath       = "/dev/init"
	InitPathOwnDev = "/sbin/ecsd-init"
)

// defaultPath is Docker's PATH for Linux.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maxArgument is the longest argument or variable that execve(2) takes: the kernel's
// MAX_ARG_STRLEN, 32 pages, less the final zero byte.
const maxArgument = 32*4096 - 1

// process makes the part of the spec that is named so.
func (r rendering) process() (*specs.Process, error) {
	user, home, err := r.user()
	if err != nil {
		return nil, err
	}
	args, err := r.args()
	if err != nil {
		return nil, err
	}
	env, err := r.env(home)
	if err != nil {
		return nil, err
	}
	cwd, err := r.cwd()
	if err != nil {
		return nil, err
	}
	caps, err := r.capabilities(user.UID)
	if err != nil {
		return nil, err
	}
	rlimits, err := r.rlimits()
	if err != nil {
		return nil, err
	}
	return &specs.Process{
		Terminal:        isTrue(r.c.PseudoTerminal),
		User:            user,
		Args:            args,
		Env:             env,
		Cwd:             cwd,
		Capabilities:    caps,
		Rlimits:         rlimits,
		NoNewPrivileges: r.security.noNewPrivileges || r.host.NoNewPrivileges,
		ApparmorProfile: r.security.apparmor,
		SelinuxLabel:    r.security.selinux,
	}, nil
}

// user resolves the definition's user, else the image's.
func (r rendering) user() (specs.User, string, error) {
	field, name := r.field("user"), r.c.User
	if name == "" {
		field, name = "image", r.img.User
	}
	u, home, err := ResolveUser(name, r.img.Passwd, r.img.Group)
	if err != nil {
		return u, "", &OCIError{Code: CodeCannotStartContainer, Field: field, Message: err.Error()}
	}
	return u, home, nil
}

// args gives the command line. An entry point of the definition replaces the image's
// and drops the image's CMD with it; an entry point of one empty string only drops both.
// An empty list says nothing, since describe-task-definition prints one where nothing was
// set.
func (r rendering) args() ([]string, error) {
	entryPoint, command := r.c.EntryPoint, r.c.Command
	if len(entryPoint) == 0 {
		entryPoint = r.img.Entrypoint
		if len(command) == 0 {
			command = r.img.Cmd
		}
	}
	if len(entryPoint) == 1 && entryPoint[0] == "" {
		entryPoint = nil
	}
	args := slices.Concat(entryPoint, command)
	if len(args) == 0 {
		return nil, r.fail(CodeCannotCreateContainer, "command",
			"no command specified: the image has neither ENTRYPOINT nor CMD, so set command or entryPoint")
	}
	if args[0] == "" {
		return nil, r.fail(CodeCannotStartContainer, "command",
			`exec: "": executable file not found: the first word of the command is empty`)
	}
	for _, a := range args {
		if err := execString(r.field("command"), "an argument", a); err != nil {
			return nil, err
		}
	}
	if r.wantsInit() {
		if r.host.InitBinary == "" {
			return nil, r.fail(CodeCannotStartContainer, "linuxParameters.initProcessEnabled",
				"this host has no init binary: install the one that comes with ecsd, or set it to false")
		}
		args = append([]string{r.initPath(), "--"}, args...)
	}
	return args, nil
}

// wantsInit reports whether an init process goes in front. In a pid namespace that the
// container shares there is one already, or it is the host's.
func (r rendering) wantsInit() bool {
	return isTrue(r.params.InitProcessEnabled) && r.t.Definition.PIDMode == ""
}

func (r rendering) initPath() string {
	for _, m := range r.c.MountPoints {
		if path.Clean(m.ContainerPath) == "/dev" {
			return InitPathOwnDev
		}
	}
	return InitPath
}

// env gives the environment: Docker's defaults, the image's, the definition's, then the
// host's; a later value takes the place of an earlier one. HOME is the user's unless
// somebody sets it.
func (r rendering) env(home string) ([]string, error) {
	var e environment
	e.set("PATH", defaultPath)
	hostname, err := r.hostname()
	if err != nil {
		return nil, err
	}
	e.set("HOSTNAME", hostname)
	if isTrue(r.c.PseudoTerminal) {
		e.set("TERM", "xterm")
	}
	e.set("HOME", home)
	for _, kv := range r.img.Env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			continue // Docker drops what is no assignment
		}
		if err := execString("image", fmt.Sprintf("variable %q", name), kv); err != nil {
			return nil, err
		}
		e.set(name, value)
	}
	for _, kv := range r.c.Environment {
		if kv.Name == "" || strings.Contains(kv.Name, "=") {
			return nil, r.fail(CodeCannotCreateContainer, "environment", "%q cannot be the name of a variable: it is empty or contains \"=\"", kv.Name)
		}
		if err := execString(r.field("environment"), fmt.Sprintf("variable %q", kv.Name), kv.Name+"="+kv.Value); err != nil {
			return nil, err
		}
		e.set(kv.Name, kv.Value)
	}
	for _, name := range slices.Sorted(maps.Keys(r.host.Env)) {
		if err := execString(r.field("secrets"), fmt.Sprintf("variable %q", name), name+"="+r.host.Env[name]); err != nil {
			return nil, err
		}
		e.set(name, r.host.Env[name])
	}
	return e.list(), nil
}

// environment is an ordered set of variables. A variable keeps the place where it was
// first set.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if e.values == nil {
		e.values = map[string]string{}
	}
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) list() []string {
	all := make([]string, 0, len(e.names))
	for _, n := range e.names {
		all = append(all, n+"="+e.values[n])
	}
	return all
}

// execString checks that execve(2) can take s. The message does not repeat the value: it
// may be a secret.
func execString(field, what, s string) error {
	if strings.Contains(s, "\x00") {
		return &OCIError{Code: CodeCannotCreateContainer, Field: field, Message: what + " contains a NUL byte, which no program can be given"}
	}
	if len(s) > maxArgument {
		return &OCIError{Code: CodeCannotStartContainer, Field: field, Message: fmt.Sprintf(
			"argument list too long: %s has %d bytes and Linux takes at most %d; pass it in a file", what, len(s), maxArgument)}
	}
	return nil
}

// cwd gives the working directory; the runtime makes it if the image has none such.
func (r rendering) cwd() (string, error) {
	field, dir := r.field("workingDirectory"), r.c.WorkingDirectory
	if dir == "" {
		field, dir = "image", r.img.WorkingDir
	}
	if dir == "" {
		return "/", nil
	}
	bad := func(code, why string) (string, error) {
		return "", &OCIError{Code: code, Field: field, Message: why}
	}
	if !path.IsAbs(dir) {
		return bad(CodeCannotCreateContainer, "the working directory '"+dir+"' is invalid, it needs to be an absolute path")
	}
	if strings.Contains(dir, "\x00") {
		return bad(CodeCannotCreateContainer, "the working directory contains a NUL byte")
	}
	dir = path.Clean(dir)
	if strings.HasPrefix(dir, "/proc/") && strings.Contains(dir, "/fd") {
		return bad(CodeCannotStartContainer, "the working directory "+dir+" is a file descriptor of the runtime and would lead out of the container (CVE-2024-21626)")
	}
	return dir, nil
}
