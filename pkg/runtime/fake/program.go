package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// program is what a process will do.
type program struct {
	ends       bool // by itself, after a while
	after      time.Duration
	code       int
	oom        bool
	term       *int          // exit code on the stop signal; nil ignores it
	drain      time.Duration // from the stop signal to the exit
	unkillable bool          // not even SIGKILL ends it: a process in D state
}

// argv joins entry point and command as images and definitions override one another: an
// entry point of the definition drops the image's command.
func argv(def spec.ContainerDefinition, image Image) []string {
	entry, cmd := image.EntryPoint, image.Cmd
	if entry == nil {
		entry = []string{"/testbox"}
	}
	if cmd == nil && image.EntryPoint == nil {
		cmd = []string{"pause"}
	}
	if len(def.EntryPoint) > 0 {
		entry, cmd = def.EntryPoint, nil
	}
	if len(def.Command) > 0 {
		cmd = def.Command
	}
	return append(slices.Clone(entry), cmd...)
}

// userOK accepts numbers and the users of the test image.
func userOK(user string) error {
	name, _, _ := strings.Cut(user, ":")
	if name == "" || slices.Contains([]string{"root", "nobody", "app"}, name) {
		return nil
	}
	if _, err := strconv.Atoi(name); err == nil {
		return nil
	}
	return runtime.NewTaskError("CannotCreateContainerError", nil, "the image has no user %q", name)
}

// parse says what a container's command will do. What cannot be executed is a TaskError.
func parse(c *container) (program, error) {
	if len(c.argv) == 0 || c.argv[0] != "/testbox" {
		return program{}, runtime.NewTaskError("CannotStartContainerError", nil, "no such executable: %q", strings.Join(c.argv, " "))
	}
	return command(c, c.argv[1:]), nil
}

// command interprets one command of testbox. Commands that end at once have their effect
// on the container's files now.
func command(c *container, args []string) program {
	onTerm := func(code int) *int { return &code }
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	number := func(i int) int { n, _ := strconv.Atoi(arg(i)); return n } // a bad number is 0, as good as any
	done := func(code int) program { return program{ends: true, code: code, term: onTerm(143)} }
	switch arg(0) {
	case "pause", "http", "fork", "stamp":
		return program{term: onTerm(0)}
	case "drain": // of the fake alone: drain DUR: exits 0 that long after the stop signal
		d, _ := time.ParseDuration(arg(1))
		return program{term: onTerm(0), drain: d}
	case "ignore":
		return program{}
	case "stuck": // of the fake alone: survives even SIGKILL
		return program{unkillable: true}
	case "exit":
		return done(number(1))
	case "after":
		d, err := time.ParseDuration(arg(1))
		if err != nil {
			return done(2)
		}
		return program{ends: true, after: d, code: number(2), term: onTerm(143)}
	case "alloc":
		if limit := c.def.Memory; limit > 0 && number(1) >= limit {
			return program{ends: true, code: 137, oom: true, term: onTerm(143)}
		}
		return program{term: onTerm(0)}
	case "write":
		c.files[arg(1)] = arg(2)
		return done(0)
	case "exists", "cat":
		if _, ok := c.files[arg(1)]; !ok {
			return done(1)
		}
		return done(0)
	case "lines", "echo", "env", "ls", "id", "status":
		return done(0)
	default:
		return done(2)
	}
}

// Exec runs a command of testbox in a live container.
func (r *Runtime) Exec(ctx context.Context, id, name, exec string, args []string, limit int) (runtime.ExecResult, error) {
	if err := r.enter(ctx, "Exec", id, name); err != nil {
		return runtime.ExecResult{}, err
	}
	r.mu.Lock()
	c, err := r.find("exec in", id, name)
	if err == nil && !c.seen.Live() {
		err = fmt.Errorf("exec %s in container %s of task %s: it does not run: %w", exec, name, id, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		r.mu.Unlock()
		return runtime.ExecResult{}, err
	}
	if len(args) == 0 || args[0] != "/testbox" {
		r.mu.Unlock()
		return runtime.ExecResult{}, fmt.Errorf("exec %s in container %s of task %s: no such executable %q: %w",
			exec, name, id, args, errdefs.ErrInvalidArgument)
	}
	prog := command(c, args[1:])
	out := output(c, args[1:])
	r.mu.Unlock()
	if len(out) > limit {
		out = out[:limit]
	}
	if !prog.ends {
		<-ctx.Done()
		return runtime.ExecResult{Output: out}, context.Cause(ctx)
	}
	timer := time.NewTimer(prog.after)
	defer timer.Stop()
	select {
	case <-timer.C:
		return runtime.ExecResult{Code: prog.code, Output: out}, nil
	case <-ctx.Done():
		return runtime.ExecResult{Output: out}, context.Cause(ctx)
	}
}

// output is what a command prints.
func output(c *container, args []string) string {
	if len(args) == 0 {
		return ""
	}
	switch args[0] {
	case "echo":
		return strings.Join(args[1:], " ") + "\n"
	case "cat":
		if len(args) > 1 {
			return c.files[args[1]]
		}
	case "env":
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(c.env)) {
			fmt.Fprintf(&b, "%s=%s\n", k, c.env[k])
		}
		return b.String()
	}
	return ""
}

// Stats gives plausible figures of a task's live containers.
func (r *Runtime) Stats(ctx context.Context, id string) (map[string]runtime.Stats, error) {
	if err := r.enter(ctx, "Stats", id, ""); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tasks[id]
	if t == nil {
		return nil, fmt.Errorf("figures of task %s: there is none: %w", id, errdefs.ErrNotFound)
	}
	out := map[string]runtime.Stats{}
	for name, c := range t.containers {
		if c.seen.Live() {
			out[name] = runtime.Stats{
				CPUUsage: time.Millisecond, MemoryUsage: 1 << 20, MemoryWorkingSet: 1 << 20,
				MemoryLimit: uint64(c.def.Memory) << 20, Processes: 1,
			}
		}
	}
	return out, nil
}

// Ping answers unless it was told to fail or to hang.
func (r *Runtime) Ping(ctx context.Context) (runtime.Versions, error) {
	if err := r.enter(ctx, "Ping", "", ""); err != nil {
		return runtime.Versions{}, err
	}
	return runtime.Versions{Containerd: "fake 1", Runtime: "fake 1"}, nil
}

// ListImages lists what has been pulled.
func (r *Runtime) ListImages(ctx context.Context) ([]runtime.Image, error) {
	if err := r.enter(ctx, "ListImages", "", ""); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []runtime.Image
	for _, ref := range slices.Sorted(maps.Keys(r.local)) {
		out = append(out, runtime.Image{Ref: ref, Digest: r.images[ref].digest(ref), Size: 1 << 20})
	}
	return out, nil
}

// RemoveImage forgets a pulled image; an unknown one is nil.
func (r *Runtime) RemoveImage(ctx context.Context, ref string) error {
	if err := r.enter(ctx, "RemoveImage", ref, ""); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.local, ref)
	return r.left("RemoveImage")
}

// errInjected is the fault of a call that was told to fail without saying how.
var errInjected = errors.New("injected fault")
