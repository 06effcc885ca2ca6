// Package fake is a runtime.Runtime in memory. It behaves: its containers run a small
// set of commands (those of the test image's /testbox), exit by themselves, react to
// signals and are restarted on the same files. And it breaks to order: calls fail or
// hang, events get lost, a task is forgotten while its processes live on, the machine
// restarts.
//
// It takes time from time.Now, so that under testing/synctest a stop timeout of thirty
// seconds passes in an instant. It may do only what runtimetest proves of the real
// runtime too.
//
//	        CreateContainer        StartContainer          the process ends
//	Absent ────────────────► Created ──────────► Live ────────────────► Exited
//	   ▲                        │                  ▲      StartContainer   │
//	   │      RemoveContainer   │                  └───────────────────────┤
//	   └────────────────────────┴──────────────────────────────────────────┘
package fake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// Runtime is the fake. Make one with New; its methods may be called from many goroutines.
type Runtime struct {
	mu     sync.Mutex
	boots  int       // restarts of the machine
	booted time.Time // of the latest
	tasks  map[string]*task
	images map[string]Image
	local  map[string]bool // images pulled
	subs   map[chan string]struct{}
	faults map[string][]error       // by method: what the next calls answer
	lost   map[string]int           // by method: calls that take effect but answer with an error
	hangs  map[string]chan struct{} // by method: closed when calls may go on
	calls  []Call
	deaf   bool // events are lost
	nextIP uint32
	runs   uint64 // counts runs of containers, so that a timer knows its own
}

// Call is one call of a method, as Calls lists them.
type Call struct {
	Method, Task, Container string
	At                      time.Time
}

// Image is what a reference leads to. The zero Image is the test image.
type Image struct {
	Digest     string        // "": made from the reference
	EntryPoint []string      // nil: /testbox
	Cmd        []string      // nil: pause
	PullTime   time.Duration // how long a pull takes
	Err        error         // what a pull ends with, a *runtime.TaskError or a fault
}

// task is one task on the machine.
type task struct {
	id         string
	identity   runtime.Identity
	sandbox    *runtime.Sandbox
	containers map[string]*container
}

// container is one container on the machine.
type container struct {
	def    spec.ContainerDefinition
	argv   []string
	env    map[string]string
	seen   runtime.Container
	run    uint64 // of the process, 0 when none runs
	prog   program
	orphan bool // the process runs but the runtime has forgotten it
	files  map[string]string
}

var (
	_ runtime.Runtime = (*Runtime)(nil)
	_ runtime.Execer  = (*Runtime)(nil)
	_ runtime.Statser = (*Runtime)(nil)
	_ runtime.Pinger  = (*Runtime)(nil)
	_ runtime.Images  = (*Runtime)(nil)
)

// New makes an empty machine on which every image reference leads to the test image.
func New() *Runtime {
	return &Runtime{
		booted: time.Now(),
		tasks:  map[string]*task{},
		images: map[string]Image{},
		local:  map[string]bool{},
		subs:   map[chan string]struct{}{},
		faults: map[string][]error{},
		lost:   map[string]int{},
		hangs:  map[string]chan struct{}{},
	}
}

// Now is this moment on the fake's machine. Pass it on wherever a clock is asked for.
func (r *Runtime) Now() runtime.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now()
}

func (r *Runtime) now() runtime.Time {
	at := time.Now()
	return runtime.Time{Boot: fmt.Sprintf("boot-%d", r.boots+1), At: at.Sub(r.booted) + time.Second, Wall: at}
}

// List observes tasks, as runtime.Runtime says.
func (r *Runtime) List(ctx context.Context, ids ...string) ([]runtime.Task, error) {
	first := ""
	if len(ids) == 1 {
		first = ids[0]
	}
	if err := r.enter(ctx, "List", first, ""); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(ids) == 0 {
		for id := range r.tasks {
			ids = append(ids, id)
		}
	}
	var out []runtime.Task
	for _, id := range ids {
		if t := r.tasks[id]; t != nil {
			out = append(out, t.observe())
		}
	}
	return out, nil
}

// observe copies what can be seen of a task.
func (t *task) observe() runtime.Task {
	out := runtime.Task{ID: t.id, Identity: t.identity, Containers: map[string]runtime.Container{}}
	if t.sandbox != nil {
		sb := *t.sandbox
		sb.Networks = maps.Clone(sb.Networks)
		out.Sandbox = &sb
	}
	for name, c := range t.containers {
		seen := c.seen
		if c.seen.Exit != nil {
			exit := *c.seen.Exit
			seen.Exit = &exit
		}
		if c.orphan {
			out.Processes++
		}
		out.Containers[name] = seen
	}
	return out
}

// Pull makes an image available after its PullTime.
func (r *Runtime) Pull(ctx context.Context, ref string, _ runtime.Auth) (runtime.Image, error) {
	if err := r.enter(ctx, "Pull", ref, ""); err != nil {
		return runtime.Image{}, err
	}
	r.mu.Lock()
	image := r.images[ref]
	r.mu.Unlock()
	if image.PullTime > 0 {
		timer := time.NewTimer(image.PullTime)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return runtime.Image{}, fmt.Errorf("pull %s: %w", ref, context.Cause(ctx))
		}
	}
	if image.Err != nil {
		return runtime.Image{}, image.Err
	}
	r.mu.Lock()
	r.local[ref] = true
	r.mu.Unlock()
	return r.answer("Pull", ref, image)
}

func (r *Runtime) answer(method, ref string, image Image) (runtime.Image, error) {
	if err := r.leave(method); err != nil {
		return runtime.Image{}, err
	}
	return runtime.Image{Ref: ref, Digest: image.digest(ref), Size: 1 << 20}, nil
}

func (i Image) digest(ref string) string {
	if i.Digest != "" {
		return i.Digest
	}
	sum := sha256.Sum256([]byte(ref))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// CreateContainer prepares a container.
func (r *Runtime) CreateContainer(ctx context.Context, t spec.Task, c runtime.CreateConfig) error {
	if err := r.enter(ctx, "CreateContainer", t.ID, c.Name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	tk := r.tasks[t.ID]
	if tk == nil || tk.sandbox == nil {
		return fmt.Errorf("create container %s of task %s: it has no sandbox yet: %w", c.Name, t.ID, errdefs.ErrFailedPrecondition)
	}
	index := -1
	for i, d := range t.Definition.ContainerDefinitions {
		if d.Name == c.Name {
			index = i
		}
	}
	if index < 0 {
		return fmt.Errorf("create container %s of task %s: the definition has no container of that name: %w", c.Name, t.ID, errdefs.ErrNotFound)
	}
	def := t.Definition.ContainerDefinitions[index]
	hash := specHash(def, c.Image)
	if old := tk.containers[c.Name]; old != nil {
		if old.seen.SpecHash != hash {
			return fmt.Errorf("create container %s of task %s: one with another spec is there; remove it first: %w", c.Name, t.ID, errdefs.ErrFailedPrecondition)
		}
		return r.left("CreateContainer")
	}
	if err := userOK(def.User); err != nil {
		return err
	}
	image := r.images[c.Image.Ref]
	tk.containers[c.Name] = &container{
		def:   def,
		argv:  argv(def, image),
		env:   environment(def, c.Env),
		files: map[string]string{"/testbox": "", "/etc/passwd": "", "/etc/group": ""},
		seen: runtime.Container{
			Name: c.Name, ID: fmt.Sprintf("%s-%d", t.ID, index), SpecHash: hash,
			ImageDigest: c.Image.Digest, Created: r.now(),
		},
	}
	return r.left("CreateContainer")
}

func specHash(def spec.ContainerDefinition, image runtime.Image) string {
	b, _ := json.Marshal(struct { // plain data: cannot fail
		D spec.ContainerDefinition
		I string
	}{def, image.Digest})
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func environment(def spec.ContainerDefinition, more map[string]string) map[string]string {
	env := map[string]string{}
	for _, kv := range def.Environment {
		env[kv.Name] = kv.Value
	}
	maps.Copy(env, more)
	return env
}

// StartContainer runs a container, or runs an exited one again.
func (r *Runtime) StartContainer(ctx context.Context, id, name string) error {
	if err := r.enter(ctx, "StartContainer", id, name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find("start", id, name)
	if err != nil {
		return err
	}
	if c.seen.Live() && c.seen.Started.Boot == r.now().Boot {
		return r.left("StartContainer")
	}
	prog, err := parse(c)
	if err != nil {
		return err
	}
	if !c.seen.Started.IsZero() {
		c.seen.Restarts++
	}
	r.runs++
	c.run, c.prog = r.runs, prog
	c.seen.Started, c.seen.Exit, c.seen.StopSignaled = r.now(), nil, runtime.Time{}
	c.seen.PID = int(1000 + r.runs)
	if prog.ends {
		r.exitAfter(id, name, c.run, prog.after, prog.code, prog.oom)
	}
	r.changed(id)
	return r.left("StartContainer")
}

// exitAfter ends a run after d, unless it has ended before.
func (r *Runtime) exitAfter(id, name string, run uint64, d time.Duration, code int, oom bool) {
	time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if t := r.tasks[id]; t != nil {
			if c := t.containers[name]; c != nil && c.run == run {
				r.exited(id, c, &code, oom)
			}
		}
	})
}

// exited ends the process of a container and tells of it. r.mu is held.
func (r *Runtime) exited(id string, c *container, code *int, oom bool) {
	c.run = 0
	c.seen.PID = 0
	if c.orphan {
		c.orphan = false
	} else {
		c.seen.Exit = &runtime.Exit{Code: code, At: r.now(), OOMKilled: oom}
		if oom {
			c.seen.OOMKills++
		}
	}
	r.changed(id)
}

// StopContainer sends the stop signal, once.
func (r *Runtime) StopContainer(ctx context.Context, id, name string) error {
	if err := r.enter(ctx, "StopContainer", id, name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find("stop", id, name)
	if err != nil {
		return err
	}
	if c.seen.Started.IsZero() {
		return fmt.Errorf("stop container %s of task %s: it was never started: %w", name, id, errdefs.ErrFailedPrecondition)
	}
	if !c.seen.Live() || !c.seen.StopSignaled.IsZero() {
		return r.left("StopContainer")
	}
	c.seen.StopSignaled = r.now()
	if c.prog.term != nil && c.run != 0 {
		r.exitAfter(id, name, c.run, c.prog.drain, *c.prog.term, false)
	}
	return r.left("StopContainer")
}

// KillContainer kills all processes of a container, forgotten ones too.
func (r *Runtime) KillContainer(ctx context.Context, id, name string) error {
	if err := r.enter(ctx, "KillContainer", id, name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.find("kill", id, name)
	if err != nil {
		return err
	}
	if c.run != 0 && !c.prog.unkillable {
		r.exitAfter(id, name, c.run, 0, 137, false)
	}
	return r.left("KillContainer")
}

// RemoveContainer removes a container that does not run.
func (r *Runtime) RemoveContainer(ctx context.Context, id, name string) error {
	if err := r.enter(ctx, "RemoveContainer", id, name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tasks[id]
	if t == nil || t.containers[name] == nil {
		return r.left("RemoveContainer")
	}
	if c := t.containers[name]; c.run != 0 {
		return fmt.Errorf("remove container %s of task %s: it runs; stop it first: %w", name, id, errdefs.ErrFailedPrecondition)
	}
	delete(t.containers, name)
	r.forgetEmpty(t)
	return r.left("RemoveContainer")
}

// find looks a container up. r.mu is held.
func (r *Runtime) find(verb, id, name string) (*container, error) {
	if t := r.tasks[id]; t != nil && t.containers[name] != nil {
		return t.containers[name], nil
	}
	return nil, fmt.Errorf("%s container %s of task %s: there is none: %w", verb, name, id, errdefs.ErrNotFound)
}

// forgetEmpty drops a task of which nothing is left. r.mu is held.
func (r *Runtime) forgetEmpty(t *task) {
	if t.sandbox == nil && len(t.containers) == 0 {
		delete(r.tasks, t.id)
	}
}

// address gives out the next address of 172.30.0.0/16.
func (r *Runtime) address() netip.Addr {
	r.nextIP++
	n := r.nextIP + 1
	return netip.AddrFrom4([4]byte{172, 30, byte(n >> 8), byte(n)})
}
