// Package runtime is the door to the machine: the interface through which ecsd runs
// containers, and the state it observes there. It holds no implementation; those are in
// runtime/containerd (real) and runtime/fake (in memory), and runtime/runtimetest is the
// suite that both must pass.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ecsd/pkg/spec"
)

// Runtime runs containers in sandboxes on one machine.
//
// A task has one sandbox and, in it, at most one container of each name. Containers
// move Absent → Created → Live → Exited; starting an exited one runs it again on the
// same root filesystem, as a restart policy wants it, and counts the restart.
//
// Every method is idempotent: asked for what is already so, it returns nil. Every
// method but Pull is short and has its own deadline. Unknown names fail with
// errdefs.ErrNotFound, methods out of order with errdefs.ErrFailedPrecondition, and what
// is the definition's own fault (no such executable, user or mount source; image not
// found or denied) with a *TaskError that carries ECS's code and is final. Any other
// error is a fault of the machine and worth a retry. Callers serialise by task.
type Runtime interface {
	// List observes tasks: with ids a look at each (an unknown id is left out, not an
	// error), without all that carry our labels. A task whose containers cannot be
	// observed now (a hung shim) is an error, never a task without containers.
	List(ctx context.Context, ids ...string) ([]Task, error)

	// Pull makes an image available, unpacked, and tells what it is. It may take long; ctx
	// bounds it. When the image is there already it follows the pull behaviour that the
	// runtime was configured with. ref is a registry reference, or oci-archive:/path.
	Pull(ctx context.Context, ref string, auth Auth) (Image, error)

	// CreateSandbox makes what the task's containers share: directory, cgroup, network
	// namespaces, addresses, published ports. Called again it compares and repairs.
	CreateSandbox(ctx context.Context, t spec.Task) error

	// RemoveSandbox frees all that CreateSandbox made, and what else is left of the task
	// on the machine, except the records ecsd keeps of it. Containers must have been
	// removed (else ErrFailedPrecondition).
	RemoveSandbox(ctx context.Context, task string) error

	// CreateContainer prepares root filesystem and OCI spec. It needs the sandbox. A
	// container of that name with another SpecHash is ErrFailedPrecondition.
	CreateContainer(ctx context.Context, t spec.Task, c CreateConfig) error

	// StartContainer runs a created container, or runs an exited one again, which counts
	// as a restart. For a live one it does nothing.
	StartContainer(ctx context.Context, task, name string) error

	// StopContainer sends the stop signal, then records when: a crash in between repeats
	// a SIGTERM, never skips it. Called again it does nothing: the first time counts.
	StopContainer(ctx context.Context, task, name string) error

	// KillContainer sends SIGKILL to all of the container's processes.
	KillContainer(ctx context.Context, task, name string) error

	// RemoveContainer removes a container that is not live (a live one is
	// ErrFailedPrecondition), with its root filesystem. An unknown one is nil.
	RemoveContainer(ctx context.Context, task, name string) error

	// Events sends the id of a task of which something may have changed, until ctx ends;
	// then it closes the channel.
	// It is a hint: it may repeat, invent and lose. "" means that anything may have
	// changed: sent after the subscription was lost and made again.
	Events(ctx context.Context) <-chan string
}

// Auth is what a registry wants to know. The zero Auth is anonymous.
type Auth struct {
	Username, Password string
	IdentityToken      string // an OAuth2 refresh token, in place of a password
}

// Image is an image that is on the machine and unpacked.
type Image struct {
	Ref    string // as asked for
	Digest string // of the manifest or index the reference resolved to
	Size   int64  // bytes of content
}

// CreateConfig is what CreateContainer needs beside the task.
type CreateConfig struct {
	Name  string // of a container in the task's definition
	Image Image  // as Pull returned it
	// Env is added to the environment last: values resolved from secrets and the like.
	// It is never logged and not part of SpecHash.
	Env map[string]string
}

// Task is what was observed of one task. It is a snapshot and a value.
type Task struct {
	ID         string
	Identity   Identity             // from labels: what is known of a task whose record is lost
	Sandbox    *Sandbox             // nil when there is none
	Containers map[string]Container // by name; absent ones are not in it
	// Processes counts the processes in the task's cgroup that no observed live
	// container accounts for. Above zero the task is not dead, whatever containerd says:
	// after a shim was killed containerd forgets the task and its processes live on.
	Processes int
}

// Identity is who a task says it is by its labels.
type Identity struct {
	Cluster, Family, Service, Source string
	Revision, Slot                   int
}

// Sandbox is what the containers of a task share.
type Sandbox struct {
	NetworkMode string
	Networks    map[string]Network // by container name; "" for a namespace of the whole task (awsvpc)
	Ready       bool               // all is in place; false asks for CreateSandbox again
}

// Network is the address of one network namespace and the ports published for it.
type Network struct {
	Namespace string // path of the pinned namespace; "" on the host's network
	IPv4      netip.Addr
	IPv6      netip.Addr
	Ports     []spec.NetworkBinding
}

// Container is what was observed of one container. Its state follows from its fields, so
// no two can disagree: Created and not Started is a created one; Started and no Exit is
// live; with an Exit it has exited. Exit.Code is nil when it cannot be known: it is never
// invented.
type Container struct {
	Name         string
	ID           string // the runtime's own id
	SpecHash     string
	ImageDigest  string
	PID          int
	Restarts     int
	Created      Time
	Started      Time // of the latest run
	StopSignaled Time // zero: not asked to stop in this run
	Exit         *Exit
	OOMKills     int // kernel OOM kills seen in its cgroup
}

// Exit is how the latest run of a container ended.
type Exit struct {
	Code      *int
	At        Time
	OOMKilled bool
}

// Live reports whether the container runs.
func (c Container) Live() bool { return !c.Started.IsZero() && c.Exit == nil }

// Exited reports whether the container has run and ended.
func (c Container) Exited() bool { return c.Exit != nil }

// Time is a moment on this machine, see spec.Time.
type Time = spec.Time

// TaskError is a failure that the task definition itself causes: trying again cannot help.
type TaskError struct {
	Code    string // ECS's word: CannotPullContainerError, CannotStartContainerError, …
	Message string
	Err     error // the cause, may be nil
}

func (e *TaskError) Error() string { return e.Code + ": " + e.Message }

// Unwrap gives the cause.
func (e *TaskError) Unwrap() error { return e.Err }

// Final reports whether err is a *TaskError, and returns it.
func Final(err error) (*TaskError, bool) {
	var te *TaskError
	ok := errors.As(err, &te)
	return te, ok
}

// NewTaskError makes a TaskError with a formatted message.
func NewTaskError(code string, cause error, format string, args ...any) *TaskError {
	return &TaskError{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}

// Optional abilities of a Runtime are small interfaces found by assertion.

// Execer runs a command in a live container.
type Execer interface {
	// Exec runs args in the container and waits for it, at most until ctx ends; then the
	// command is killed. A left-over command of the same id is killed first. Output
	// beyond limit bytes is dropped.
	Exec(ctx context.Context, task, name, id string, args []string, limit int) (ExecResult, error)
}

// ExecResult is how a command ended.
type ExecResult struct {
	Code   int
	Output string // standard output and error, in the order they came
}

// Statser reads a container's resource figures, from cgroupfs.
type Statser interface {
	Stats(ctx context.Context, task string) (map[string]Stats, error) // by container name
}

// Stats are figures of one container; counters count from its start.
type Stats struct {
	CPUUsage              time.Duration
	CPUPeriods            uint64
	CPUThrottledPeriods   uint64
	CPUThrottled          time.Duration
	MemoryUsage           uint64 // bytes, with cache
	MemoryWorkingSet      uint64 // usage less inactive file cache
	MemoryRSS             uint64
	MemoryLimit           uint64 // 0: none
	Processes             uint64
	OOMKills              uint64
	ReadBytes, WriteBytes uint64
	RxBytes, TxBytes      uint64
	RxErrors, TxErrors    uint64
	RxDropped, TxDropped  uint64
}

// Balancer publishes a service's steady host ports.
type Balancer interface {
	// SetServicePorts makes each port of the host lead to its backends, a new connection
	// to a random one of them. The list is complete: ports of the service that it leaves
	// out are closed. Established connections go on. No backend: connections are refused.
	SetServicePorts(ctx context.Context, service string, ports []ServicePort) error
}

// ServicePort is one steady port of a service.
type ServicePort struct {
	Port     int
	Protocol string // tcp or udp
	Backends []netip.AddrPort
}

// Images lists and removes what has been pulled.
type Images interface {
	ListImages(ctx context.Context) ([]Image, error)
	RemoveImage(ctx context.Context, ref string) error
}

// Pinger tells whether the machine's container runtime answers, and its versions.
type Pinger interface {
	Ping(ctx context.Context) (Versions, error)
}

// Versions of what runs the containers.
type Versions struct {
	Containerd string // with its version
	Runtime    string // runc or crun, with its version
}
