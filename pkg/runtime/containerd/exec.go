package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"ecsd/pkg/runtime"
)

// execDir holds the FIFOs of a container's execs.
func (r *Runtime) execDir(id string) string { return filepath.Join(r.c.RunDir, "exec", id) }

// Exec implements runtime.Execer. The command runs as the container's own process does:
// same user, environment, directory and limits, without a terminal. It does not hold the
// task's lock: a long command must not hold up a stop.
func (r *Runtime) Exec(ctx context.Context, task, name, id string, args []string, limit int) (runtime.ExecResult, error) {
	fail := func(err error) (runtime.ExecResult, error) {
		return runtime.ExecResult{}, fmt.Errorf("exec in container %s of task %s: %w", name, task, err)
	}
	if !isTaskID(task) {
		return fail(errdefs.ErrNotFound)
	}
	if len(args) == 0 || id == "" {
		return fail(fmt.Errorf("no command, or no exec id: %w", errdefs.ErrInvalidArgument))
	}
	rec, err := r.find(ctx, task, name)
	if err != nil {
		return fail(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(rec.Spec.GetValue(), &s); err != nil || s.Process == nil {
		return fail(fmt.Errorf("its OCI spec cannot be read: %w", err))
	}
	process := *s.Process
	process.Args, process.Terminal, process.ConsoleSize = args, false, nil

	e := &execution{r: r, container: rec.ID, id: fileName(id), limit: limit}
	if err := e.clear(ctx); err != nil {
		return fail(fmt.Errorf("clear away the command before: %w", err))
	}
	result, err := e.run(ctx, &process)
	if err != nil {
		return fail(err)
	}
	return result, nil
}

// execution is one command in one container.
type execution struct {
	r         *Runtime
	container string
	id        string
	limit     int
}

// clear kills and removes a left-over command of the same id: one of an agent that died.
func (e *execution) clear(ctx context.Context) error {
	service := e.r.client.TaskService()
	_, err := service.Get(ctx, &tasks.GetRequest{ContainerID: e.container, ExecID: e.id})
	if err != nil {
		if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	return e.remove(ctx)
}

// remove kills the command if it runs, waits for its end, which then is near, and deletes
// it.
func (e *execution) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	service := e.r.client.TaskService()
	_, err := service.Kill(ctx, &tasks.KillRequest{ContainerID: e.container, ExecID: e.id, Signal: uint32(syscall.SIGKILL)})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		return err
	}
	if err == nil {
		_, err = service.Wait(ctx, &tasks.WaitRequest{ContainerID: e.container, ExecID: e.id})
		if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	_, err = service.DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: e.container, ExecID: e.id})
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// run starts the command and waits for it, at most until ctx ends; then it is killed.
func (e *execution) run(ctx context.Context, process *specs.Process) (runtime.ExecResult, error) {
	marshalled, err := typeurl.MarshalAnyToProto(process)
	if err != nil {
		return runtime.ExecResult{}, err
	}
	dir := e.r.execDir(e.container)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return runtime.ExecResult{}, err
	}
	out := &boundedBuffer{limit: e.limit}
	fifos, err := cio.NewFIFOSetInDir(dir, e.id, false)
	if err != nil {
		return runtime.ExecResult{}, err
	}
	// Without stdin the command reads the end at once.
	fifos.Stdin = ""
	defer fifos.Close()
	pipes, err := cio.NewDirectIO(ctx, fifos)
	if err != nil {
		return runtime.ExecResult{}, err
	}
	defer pipes.Close()
	service := e.r.client.TaskService()
	if _, err := service.Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: e.container, ExecID: e.id, Spec: marshalled,
		Stdout: fifos.Stdout, Stderr: fifos.Stderr,
	}); err != nil {
		return runtime.ExecResult{}, errgrpc.ToNative(err)
	}
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = out.ReadFrom(pipes.Stdout) })
	copies.Go(func() { _, _ = out.ReadFrom(pipes.Stderr) })
	if _, err := service.Start(ctx, &tasks.StartRequest{ContainerID: e.container, ExecID: e.id}); err != nil {
		pipes.Cancel()
		// A command that cannot run is the definition's fault, and says so.
		err = errors.Join(startFault(errgrpc.ToNative(err)), e.remove(ctx))
		pipes.Close()
		copies.Wait()
		return runtime.ExecResult{}, err
	}
	response, err := service.Wait(ctx, &tasks.WaitRequest{ContainerID: e.container, ExecID: e.id})
	if err != nil {
		err = errgrpc.ToNative(err)
		if ctx.Err() != nil {
			err = fmt.Errorf("the command did not end in time: %w", ctx.Err())
		}
		err = errors.Join(err, e.remove(ctx))
		pipes.Close()
		copies.Wait()
		return runtime.ExecResult{Output: out.String()}, err
	}
	removed := e.remove(ctx)
	// A child of the command may hold its output open: what it wrote until now is enough.
	drained := make(chan struct{})
	go func() { copies.Wait(); close(drained) }()
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-drained:
	case <-t.C:
		pipes.Close()
		<-drained
	}
	return runtime.ExecResult{Code: int(response.ExitStatus), Output: out.String()}, removed
}

// boundedBuffer keeps the first bytes that come, in the order they come from both streams,
// and drops the rest, so that no command blocks on its output.
type boundedBuffer struct {
	limit int

	mu   sync.Mutex
	data []byte
}

// ReadFrom reads a stream to its end.
func (b *boundedBuffer) ReadFrom(stream io.Reader) (int64, error) {
	chunk := make([]byte, 4096)
	var total int64
	for {
		n, err := stream.Read(chunk)
		total += int64(n)
		b.mu.Lock()
		b.data = append(b.data, chunk[:min(n, b.limit-len(b.data))]...)
		b.mu.Unlock()
		if err != nil {
			return total, err
		}
	}
}

func (b *boundedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.data)
}
