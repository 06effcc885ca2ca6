package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// Defaults that ECS gives.
const (
	defaultStopTimeout   = 30 * time.Second
	defaultRestartPeriod = 300 * time.Second
)

// stage is where a container stands, as far as planning goes. It follows from what was
// observed and from the definition.
//
//	          ┌────────┐
//	absent ─► created ─► live ─► again ─┐   its restart policy runs it again
//	   │         │        ▲       │     │
//	   │         │        └───────┘     │
//	   ▼         ▼                      ▼
//	 barred    barred                  over
//
// barred: it has never run and never will, because of its own fault or because of a
// dependency that can no longer be met. over: it has run, and will not again.
type stage int

const (
	absent stage = iota
	created
	live
	again
	over
	barred
)

// reading is what Plan and Status alike make of one task.
type reading struct {
	want  spec.Task
	have  Observed
	now   runtime.Time
	stage map[string]stage
	why   map[string]string        // of barred containers: the reason
	late  map[string]time.Duration // by container that others wait for: until startTimeout is over
	ring  []string                 // of dependencies, when the definition has one
	end   *ending                  // why the task winds down, nil when it does not
}

// ending is why a task winds down.
type ending struct {
	code   string // ECS's stopCode
	reason string
}

// newReading reads a task. now may be zero: then no timer has run out.
func newReading(want spec.Task, have Observed, now runtime.Time) *reading {
	have.Task.Containers = settle(have.Task.Containers, now)
	r := &reading{
		want: want, have: have, now: now,
		stage: map[string]stage{}, why: map[string]string{}, late: map[string]time.Duration{},
		ring: cycle(want.Definition),
	}
	for _, c := range want.Definition.ContainerDefinitions {
		r.place(c)
	}
	r.end = r.ending()
	return r
}

// settle marks as exited, with an unknown code, what was started in an earlier boot:
// whatever ran then is dead.
func settle(seen map[string]runtime.Container, now runtime.Time) map[string]runtime.Container {
	if now.Boot == "" {
		return seen
	}
	out := make(map[string]runtime.Container, len(seen))
	for name, c := range seen {
		if c.Live() && c.Started.Boot != now.Boot {
			c.Exit = &runtime.Exit{} // neither code nor time is known
			c.PID = 0
		}
		out[name] = c
	}
	return out
}

// place finds the stage of a container, after those of the containers it needs.
func (r *reading) place(def spec.ContainerDefinition) stage {
	if s, ok := r.stage[def.Name]; ok {
		return s
	}
	r.stage[def.Name] = absent // a ring of dependencies comes back here
	s := r.observed(def)
	if s == absent || s == created {
		if why := r.bar(def); why != "" {
			s = barred
			r.why[def.Name] = why
		}
	}
	r.stage[def.Name] = s
	return s
}

// observed is a container's stage by what was seen of it alone.
func (r *reading) observed(def spec.ContainerDefinition) stage {
	c, ok := r.have.Task.Containers[def.Name]
	switch {
	case !ok:
		return absent
	case c.Live():
		return live
	case !c.Exited():
		return created
	case r.fault(def.Name) == nil && runsAgain(def, c, r.now):
		return again
	default:
		return over
	}
}

// runsAgain is ECS's rule for a restart policy: an exit is followed by a restart when the
// code is known and not ignored, and the run lasted at least restartAttemptPeriod, so that
// restarts are at least that far apart. A shorter run ends the container for good. (A task of
// which a container was signalled winds down, so its policies no longer matter.)
func runsAgain(def spec.ContainerDefinition, c runtime.Container, now runtime.Time) bool {
	p := def.RestartPolicy
	if p == nil || p.Enabled == nil || !*p.Enabled || c.Exit == nil || c.Exit.Code == nil {
		return false
	}
	if now.Boot != "" && c.Exit.At.Boot != now.Boot || slices.Contains(p.IgnoredExitCodes, *c.Exit.Code) {
		return false
	}
	period := defaultRestartPeriod
	if p.RestartAttemptPeriod != nil {
		period = time.Duration(*p.RestartAttemptPeriod) * time.Second
	}
	ran, sameBoot := c.Exit.At.Since(c.Started)
	return sameBoot && ran >= period
}

// bar says why a container that has not run never will; "" when it still may.
func (r *reading) bar(def spec.ContainerDefinition) string {
	if err := r.fault(def.Name); err != nil {
		return err.Error()
	}
	for _, n := range needs(def) {
		if why := r.hopeless(n); why != "" {
			return "CannotStartContainerError: dependency graph: " + why
		}
	}
	return ""
}

// fault is the final error of a container's own steps.
func (r *reading) fault(name string) *runtime.TaskError {
	if err := r.have.Failed[name]; err != nil {
		return err
	}
	return r.have.Pulls[name].Err
}

// hopeless says why a need can no longer be met; "" when it is or still may be.
func (r *reading) hopeless(n need) string {
	def, ok := r.want.Container(n.on)
	if !ok {
		return fmt.Sprintf("the task has no container %s", n.on)
	}
	s := r.place(def)
	if r.met(n) {
		return ""
	}
	switch {
	case s == barred:
		return fmt.Sprintf("container %s will not run", n.on)
	case s == over && n.cond == condSuccess:
		return fmt.Sprintf("container %s was to succeed, but exited %s", n.on, codeText(r.have.Task.Containers[n.on].Exit))
	case s == over && n.cond == condHealthy:
		return fmt.Sprintf("container %s exited before it became healthy", n.on)
	}
	if left, ok := r.patience(def); ok && n.cond != condStart && n.cond != condCreate {
		if left <= 0 {
			return fmt.Sprintf("container %s was not %s within its startTimeout of %d s", n.on, n.cond, *def.StartTimeout)
		}
		r.late[n.on] = left
	}
	return ""
}

// patience is what is left of a container's startTimeout, which counts from its start and
// bounds how long others wait for it. ok is false when no such time runs.
func (r *reading) patience(def spec.ContainerDefinition) (time.Duration, bool) {
	if r.now.IsZero() {
		return 0, false
	}
	return r.patienceAt(def, r.now)
}

// patienceAt is what was left of it at a moment. Of a container that was restarted the
// first start is not known; the time counts from its creation.
func (r *reading) patienceAt(def spec.ContainerDefinition, at runtime.Time) (time.Duration, bool) {
	c := r.have.Task.Containers[def.Name]
	if def.StartTimeout == nil || *def.StartTimeout <= 0 || c.Started.IsZero() {
		return 0, false
	}
	from := c.Started
	if c.Restarts > 0 {
		from = c.Created
	}
	ran, ok := at.Since(from)
	return time.Duration(*def.StartTimeout)*time.Second - ran, ok
}

// inTime reports whether what others wait for came before startTimeout was over. What
// came later has come too late for good: who waited has been given up, and stays so.
func (r *reading) inTime(def spec.ContainerDefinition, at runtime.Time) bool {
	left, ok := r.patienceAt(def, at)
	return !ok || left > 0
}

// met reports whether a need is met now.
func (r *reading) met(n need) bool {
	s := r.stage[n.on]
	def, _ := r.want.Container(n.on)
	c, seen := r.have.Task.Containers[n.on]
	switch n.cond {
	case condCreate:
		return seen
	case condStart:
		return s == live || s == again || s == over
	case condComplete:
		return s == over && r.inTime(def, c.Exit.At)
	case condSuccess:
		return s == over && c.Exit.Code != nil && *c.Exit.Code == 0 && r.inTime(def, c.Exit.At)
	case condHealthy:
		h := r.have.Health[n.on]
		return s == live && h.Status == spec.HealthHealthy && (h.Since.IsZero() || r.inTime(def, h.Since))
	default:
		return false // an unknown condition holds for ever; Validate refuses it
	}
}

// ending says why the task winds down, nil when it does not. What came first counts: a
// task whose essential container died and which was then told to stop has ended by the
// former. Once a task winds down it goes on to, for nothing here can become untrue: its
// spec is stopped only once, exits and stop signals stay.
func (r *reading) ending() *ending {
	if r.diedFirst() {
		return &ending{spec.StopEssentialContainerExited, "Essential container in task exited"}
	}
	if r.want.DesiredStatus == spec.StatusStopped {
		e := &ending{r.want.StopCode, r.want.StoppedReason}
		if e.code == "" {
			e.code = spec.StopUserInitiated
		}
		if e.reason == "" {
			e.reason = "Task stopped by user"
		}
		return e
	}
	if err := r.have.Failed[""]; err != nil {
		return &ending{spec.StopTaskFailedToStart, err.Error()}
	}
	if r.ring != nil {
		return &ending{spec.StopTaskFailedToStart, "Task dependencies cannot be resolved: " + strings.Join(append(r.ring, r.ring[0]), " waits for ")}
	}
	idle := true
	for _, c := range r.want.Definition.ContainerDefinitions {
		if r.stage[c.Name] == barred && essential(c) {
			return &ending{spec.StopTaskFailedToStart, "Task failed to start"}
		}
		idle = idle && (r.stage[c.Name] == barred || r.stage[c.Name] == over)
	}
	for _, c := range r.have.Task.Containers {
		if !c.StopSignaled.IsZero() {
			return &ending{spec.StopUserInitiated, "Task was already being stopped"}
		}
	}
	if idle {
		return &ending{spec.StopEssentialContainerExited, "All containers in task exited"}
	}
	return nil
}

// diedFirst reports whether an essential container ended for good, unasked, before any
// container of the task was signalled to stop.
func (r *reading) diedFirst() bool {
	died, signaled := runtime.Time{}, runtime.Time{}
	for _, c := range r.have.Task.Containers {
		if !c.StopSignaled.IsZero() && (signaled.IsZero() || before(c.StopSignaled, signaled)) {
			signaled = c.StopSignaled
		}
	}
	for _, def := range r.want.Definition.ContainerDefinitions {
		c := r.have.Task.Containers[def.Name]
		if !essential(def) || r.stage[def.Name] != over || !c.StopSignaled.IsZero() {
			continue
		}
		at := c.Exit.At
		if at.IsZero() {
			at = c.Started
		}
		if died.IsZero() || before(at, died) {
			died = at
		}
	}
	return !died.IsZero() && (signaled.IsZero() || before(died, signaled))
}

// before orders moments: by the boot clock within one boot, else by the wall.
func before(a, b runtime.Time) bool {
	if d, ok := b.Since(a); ok {
		return d > 0
	}
	return a.Wall.Before(b.Wall)
}

// essential is ECS's default: a container is, unless it says no.
func essential(c spec.ContainerDefinition) bool { return c.Essential == nil || *c.Essential }

func codeText(e *runtime.Exit) string {
	if e == nil || e.Code == nil {
		return "with an unknown code"
	}
	return fmt.Sprintf("with code %d", *e.Code)
}

// stopTimeout is how long a container has from the stop signal to the kill.
func (r *reading) stopTimeout(name string) time.Duration {
	if def, ok := r.want.Container(name); ok && def.StopTimeout != nil && *def.StopTimeout >= 0 {
		return time.Duration(*def.StopTimeout) * time.Second
	}
	if r.have.StopTimeout > 0 {
		return r.have.StopTimeout
	}
	return defaultStopTimeout
}

// anyLive reports whether a container is seen to run.
func (r *reading) anyLive() bool {
	for _, c := range r.have.Task.Containers {
		if c.Live() {
			return true
		}
	}
	return false
}

// names lists all containers, of the definition in its order, then strangers.
func (r *reading) names() []string {
	var out, strange []string
	for _, c := range r.want.Definition.ContainerDefinitions {
		out = append(out, c.Name)
	}
	for name := range r.have.Task.Containers {
		if _, ok := r.want.Container(name); !ok {
			strange = append(strange, name)
		}
	}
	slices.Sort(strange)
	return append(out, strange...)
}
