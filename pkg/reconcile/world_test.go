package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// world is a machine with one task on it, made of plain values: what Plan is asked about
// and what becomes of its answers. It keeps a history that oracles read.
type world struct {
	want    spec.Task
	have    Observed
	now     runtime.Time
	boots   int
	history []happening
}

// happening is something that took place in a world.
type happening struct {
	at        time.Duration // since the world began, over reboots
	seq       int           // its place in history
	what      string        // started, exited, signaled, removed, created, reboot
	container string
	code      *int
}

func newWorld(t spec.Task) *world {
	w := &world{want: t}
	w.now = runtime.Time{Boot: "boot-0", At: time.Hour, Wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.have = Observed{
		Task:  runtime.Task{ID: t.ID, Containers: map[string]runtime.Container{}},
		Pulls: map[string]Pull{}, Health: map[string]Health{}, Failed: map[string]*runtime.TaskError{},
	}
	return w
}

// elapsed is the time since the world began.
func (w *world) elapsed() time.Duration {
	return w.now.Wall.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func (w *world) note(what, container string, code *int) {
	w.history = append(w.history, happening{w.elapsed(), len(w.history), what, container, code})
}

// observed is what Plan gets to see: a copy, so that a plan that writes into its arguments
// is found out by nothing else changing.
func (w *world) observed() Observed {
	have := w.have
	have.At = w.now
	have.Task.Containers = maps.Clone(have.Task.Containers)
	return have
}

// plan asks for a plan, and remembers what the reconciler would.
func (w *world) plan() Steps {
	w.want = Remembered(w.want, w.status())
	return Plan(w.want, w.observed(), w.now)
}

func (w *world) status() spec.TaskStatus { return Status(w.want, w.observed()) }

// apply does an action, as a machine on which everything works.
func (w *world) apply(a Action) {
	name := a.Container
	c := w.have.Task.Containers[name]
	switch a.Verb {
	case PullImage:
		w.have.Pulls[name] = Pull{Started: w.now, Done: w.now, Image: runtime.Image{Ref: "image", Digest: "sha256:1"}}
	case CreateSandbox:
		w.have.Task.Sandbox = &runtime.Sandbox{Ready: true}
	case CreateContainer:
		w.put(runtime.Container{Name: name, Created: w.now})
		w.note("created", name, nil)
	case StartContainer:
		if !c.Started.IsZero() {
			c.Restarts++
		}
		c.Started, c.Exit, c.StopSignaled, c.PID = w.now, nil, runtime.Time{}, 7
		w.put(c)
		w.note("started", name, nil)
	case StopContainer:
		if c.StopSignaled.IsZero() {
			c.StopSignaled = w.now
			w.put(c)
		}
		w.note("signaled", name, nil)
	case KillContainer:
		w.have.Task.Processes = 0
		if c.Live() {
			code := 137
			w.exit(name, &code)
		}
	case RemoveContainer:
		delete(w.have.Task.Containers, name)
		w.note("removed", name, nil)
	case RemoveSandbox:
		w.have.Task.Sandbox = nil
		w.have.Task.Processes = 0
	}
}

func (w *world) put(c runtime.Container) { w.have.Task.Containers[c.Name] = c }

// exit ends a live container.
func (w *world) exit(name string, code *int) {
	c, ok := w.have.Task.Containers[name]
	if !ok || !c.Live() {
		return
	}
	c.Exit, c.PID = &runtime.Exit{Code: code, At: w.now}, 0
	w.put(c)
	w.note("exited", name, code)
}

// reboot restarts the machine: processes are gone, and nobody saw them go.
func (w *world) reboot() {
	w.boots++
	w.now = runtime.Time{Boot: fmt.Sprintf("boot-%d", w.boots), At: time.Second, Wall: w.now.Wall.Add(time.Minute)}
	for name, c := range w.have.Task.Containers {
		if c.Live() {
			w.note("exited", name, nil)
		}
	}
	w.note("reboot", "", nil)
	w.have.Task.Processes = 0
	if w.have.Task.Sandbox != nil {
		w.have.Task.Sandbox = &runtime.Sandbox{}
	}
	// The agent is new too: what it held in memory is gone.
	w.have.Pulls, w.have.Health, w.have.Failed = map[string]Pull{}, map[string]Health{}, map[string]*runtime.TaskError{}
}

// live reports whether a container runs, in this boot.
func (w *world) live(name string) bool {
	c := w.have.Task.Containers[name]
	return c.Live() && c.Started.Boot == w.now.Boot
}

// show writes a plan down, one action a line, sorted.
func show(s Steps) string {
	var lines []string
	for _, a := range s.Actions {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("  %s %s", a.Verb, a.Container))+": "+a.Why)
	}
	slices.Sort(lines)
	for i := range lines {
		lines[i] = "  " + lines[i]
	}
	if s.After > 0 {
		lines = append(lines, "  after "+s.After.String())
	}
	if s.Waiting != "" {
		lines = append(lines, "  waiting: "+s.Waiting)
	}
	if len(lines) == 0 {
		lines = []string{"  nothing to do"}
	}
	return strings.Join(lines, "\n") + "\n"
}

// showStatus writes a status down.
func showStatus(s spec.TaskStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s, wanted %s, health %s", s.LastStatus, s.DesiredStatus, s.HealthStatus)
	if s.StopCode != "" {
		fmt.Fprintf(&b, ", %s: %s", s.StopCode, s.StoppedReason)
	}
	b.WriteString("\n")
	for _, c := range s.Containers {
		fmt.Fprintf(&b, "    %s %s", c.Name, c.LastStatus)
		if c.ExitCode != nil {
			fmt.Fprintf(&b, ", code %d", *c.ExitCode)
		}
		if c.RestartCount > 0 {
			fmt.Fprintf(&b, ", restarts %d", c.RestartCount)
		}
		if c.HealthStatus != "" {
			fmt.Fprintf(&b, ", %s", c.HealthStatus)
		}
		if c.Reason != "" {
			fmt.Fprintf(&b, ", %s", c.Reason)
		}
		b.WriteString("\n")
	}
	return b.String()
}
