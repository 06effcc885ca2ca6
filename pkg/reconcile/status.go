package reconcile

import (
	"strconv"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// Status says what to tell of a task in ECS's words: lastStatus, stopCode, stoppedReason,
// times, and the same of its containers. It is the other pure half beside Plan, from the
// same arguments and never from an earlier report.
//
// A task is PENDING until each of its containers has been started (those that have run and
// ended count), RUNNING until it winds down, STOPPING while something of it lives, and
// STOPPED when neither container nor process does.
func Status(want spec.Task, have Observed) spec.TaskStatus {
	r := newReading(want, have, have.At)
	s := spec.TaskStatus{
		TaskID: want.ID, TaskARN: want.ARN(),
		ClusterARN:        "arn:aws:ecs:local:000000000000:cluster/" + want.ClusterName(),
		TaskDefinitionARN: definitionARN(want),
		Family:            want.Family, Revision: want.Revision, Service: want.Service, Slot: want.Slot,
		Source: want.Source, Group: want.Group, StartedBy: want.StartedBy,
		LastStatus:    r.lastStatus(),
		DesiredStatus: spec.StatusRunning,
		HealthStatus:  r.health(),
		CPU:           want.Definition.CPU, Memory: want.Definition.Memory,
		CreatedAt: wall(want.CreatedAt),
		StartedAt: r.startedAt(),
	}
	s.PullStartedAt, s.PullStoppedAt = r.pulled()
	if r.end != nil {
		s.DesiredStatus = spec.StatusStopped
		s.StopCode, s.StoppedReason = r.end.code, r.end.reason
		s.StoppingAt, s.ExecutionStoppedAt = r.stoppingAt(), r.executionStoppedAt()
	}
	if s.LastStatus == spec.StatusStopped {
		s.StoppedAt = r.stoppedAt()
	}
	for _, def := range want.Definition.ContainerDefinitions {
		s.Containers = append(s.Containers, r.container(def, s))
	}
	return s
}

// Remembered is what is wanted of a task once its status is known: a task that winds down
// is wanted STOPPED from then on, for the reason it began to. The first reason stays.
func Remembered(want spec.Task, s spec.TaskStatus) spec.Task {
	if s.DesiredStatus == spec.StatusStopped && want.DesiredStatus != spec.StatusStopped {
		want.DesiredStatus, want.StopCode, want.StoppedReason = spec.StatusStopped, s.StopCode, s.StoppedReason
	}
	return want
}

func definitionARN(t spec.Task) string {
	if t.Definition.TaskDefinitionARN != "" {
		return t.Definition.TaskDefinitionARN
	}
	return "arn:aws:ecs:local:000000000000:task-definition/" + t.Family + ":" + strconv.Itoa(t.Revision)
}

func (r *reading) lastStatus() string {
	if r.end != nil {
		if r.anyLive() || r.have.Task.Processes > 0 {
			return spec.StatusStopping
		}
		return spec.StatusStopped
	}
	for _, def := range r.want.Definition.ContainerDefinitions {
		if s := r.stage[def.Name]; s == absent || s == created {
			return spec.StatusPending
		}
	}
	return spec.StatusRunning
}

// health is the task's: HEALTHY when all essential containers with a health check are,
// UNHEALTHY when one of them is, else UNKNOWN.
func (r *reading) health() string {
	verdict := spec.HealthUnknown
	for _, def := range r.want.Definition.ContainerDefinitions {
		if def.HealthCheck == nil || !essential(def) {
			continue
		}
		switch r.verdict(def) {
		case spec.HealthUnhealthy:
			return spec.HealthUnhealthy
		case spec.HealthHealthy:
			if verdict != pendingHealth {
				verdict = spec.HealthHealthy
			}
		default:
			verdict = pendingHealth
		}
	}
	if verdict == pendingHealth {
		return spec.HealthUnknown
	}
	return verdict
}

// pendingHealth marks that an essential container has no verdict yet.
const pendingHealth = "PENDING"

// verdict is one container's, UNKNOWN unless its health check has spoken.
func (r *reading) verdict(def spec.ContainerDefinition) string {
	if h := r.have.Health[def.Name].Status; def.HealthCheck != nil && h != "" {
		return h
	}
	return spec.HealthUnknown
}

// startedAt is when the last container was started for the first time, once the task has
// been RUNNING. Of a container that was restarted only the latest start is known; for it
// the time of its creation stands in.
func (r *reading) startedAt() *time.Time {
	var last runtime.Time
	for _, def := range r.want.Definition.ContainerDefinitions {
		c := r.have.Task.Containers[def.Name]
		if c.Started.IsZero() {
			if r.stage[def.Name] == barred && !essential(def) {
				continue
			}
			return nil
		}
		at := c.Started
		if c.Restarts > 0 {
			at = c.Created
		}
		if last.IsZero() || before(last, at) {
			last = at
		}
	}
	return moment(last)
}

func (r *reading) pulled() (start, stop *time.Time) {
	var first, last runtime.Time
	all := len(r.have.Pulls) > 0
	for _, p := range r.have.Pulls {
		if !p.Started.IsZero() && (first.IsZero() || before(p.Started, first)) {
			first = p.Started
		}
		if p.Done.IsZero() {
			all = false
		} else if last.IsZero() || before(last, p.Done) {
			last = p.Done
		}
	}
	if !all {
		last = runtime.Time{}
	}
	return moment(first), moment(last)
}

// stoppingAt is when the task left RUNNING: the first stop signal or the essential exit
// that made it wind down, whichever came first.
func (r *reading) stoppingAt() *time.Time {
	var first runtime.Time
	for name, c := range r.have.Task.Containers {
		def, known := r.want.Container(name)
		for _, at := range []runtime.Time{c.StopSignaled, exitAt(c)} {
			if at != c.StopSignaled && known && !essential(def) {
				continue // the exit of a container that is not essential stops nothing
			}
			if !at.IsZero() && (first.IsZero() || before(at, first)) {
				first = at
			}
		}
	}
	return moment(first)
}

// executionStoppedAt is when the first essential container ended.
func (r *reading) executionStoppedAt() *time.Time {
	var first runtime.Time
	for _, def := range r.want.Definition.ContainerDefinitions {
		at := exitAt(r.have.Task.Containers[def.Name])
		if essential(def) && !at.IsZero() && (first.IsZero() || before(at, first)) {
			first = at
		}
	}
	return moment(first)
}

// stoppedAt is when the last container ended.
func (r *reading) stoppedAt() *time.Time {
	var last runtime.Time
	for _, c := range r.have.Task.Containers {
		if at := exitAt(c); !at.IsZero() && (last.IsZero() || before(last, at)) {
			last = at
		}
	}
	return moment(last)
}

func exitAt(c runtime.Container) runtime.Time {
	if c.Exit == nil {
		return runtime.Time{}
	}
	return c.Exit.At
}

// container is the status of one container.
func (r *reading) container(def spec.ContainerDefinition, task spec.TaskStatus) spec.ContainerStatus {
	c := r.have.Task.Containers[def.Name]
	s := spec.ContainerStatus{
		Name: def.Name, TaskARN: task.TaskARN, Image: def.Image, ImageDigest: c.ImageDigest, RuntimeID: c.ID,
		LastStatus: spec.StatusPending, RestartCount: c.Restarts, PID: c.PID, Essential: essential(def),
		CreatedAt: moment(c.Created), StartedAt: moment(c.Started), FinishedAt: moment(exitAt(c)),
		Reason: r.reason(def, c),
	}
	if s.ImageDigest == "" {
		s.ImageDigest = r.have.Pulls[def.Name].Image.Digest
	}
	if def.HealthCheck != nil {
		s.HealthStatus = r.verdict(def)
	}
	switch {
	case c.Live():
		s.LastStatus = spec.StatusRunning
	case c.Exited() && (r.stage[def.Name] == over || r.end != nil),
		r.stage[def.Name] == barred,
		task.LastStatus == spec.StatusStopped:
		s.LastStatus = spec.StatusStopped
	case c.Exited():
		s.LastStatus = spec.StatusRunning // about to be restarted, which ECS does not show
	}
	if c.Exit != nil {
		s.ExitCode = c.Exit.Code
	}
	if sb := r.have.Task.Sandbox; sb != nil {
		network, own := sb.Networks[def.Name]
		if !own {
			network = sb.Networks[""]
		}
		s.NetworkBindings = network.Ports
		if network.IPv4.IsValid() || network.IPv6.IsValid() {
			n := spec.NetworkInterface{}
			if network.IPv4.IsValid() {
				n.PrivateIPv4Address = network.IPv4.String()
			}
			if network.IPv6.IsValid() {
				n.IPv6Address = network.IPv6.String()
			}
			s.NetworkInterfaces = []spec.NetworkInterface{n}
		}
	}
	return s
}

// reason says in ECS's words why a container is not well.
func (r *reading) reason(def spec.ContainerDefinition, c runtime.Container) string {
	switch {
	case r.fault(def.Name) != nil && !c.Live():
		return r.fault(def.Name).Error()
	case r.stage[def.Name] == barred:
		return r.why[def.Name]
	case c.Exit == nil:
		return ""
	case c.Exit.OOMKilled:
		return "OutOfMemoryError: Container killed due to memory usage"
	case c.Exit.Code == nil && !r.now.IsZero() && c.Started.Boot != r.now.Boot:
		return "ContainerVanishedError: the machine was restarted while the container ran"
	case c.Exit.Code == nil:
		return "ContainerVanishedError: the container ended unseen; its exit code is unknown"
	}
	return ""
}

// moment is the wall time of a moment, nil when it never came.
func moment(t runtime.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return wall(t.Wall)
}

func wall(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
