package containerd

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"
)

// Topics that may mean that a container's state changed without this program's doing. What
// it does itself (create, start, delete, label changes) would only wake it up again.
const (
	topicExit = "/tasks/exit"
	topicOOM  = "/tasks/oom"
	// topicProbe is published by this program itself, to know that a subscription works.
	topicProbe = "/ecsd/subscribed"
)

// Events implements runtime.Runtime. The channel is closed when ctx ends. The goroutine
// that feeds it is started here and ends with ctx.
//
// containerd does not say when a subscription begins, and repeats nothing. So each is
// tried with an event of our own: when that comes back, everything from then on will, and
// "" is sent, since anything may have happened before.
func (r *Runtime) Events(ctx context.Context) <-chan string {
	hints := make(chan string, 64)
	go func() {
		defer close(hints)
		for first := true; ctx.Err() == nil; first = false {
			if !first {
				r.m.reconnects.Inc()
			}
			if err := r.subscribe(ctx, hints); err != nil && ctx.Err() == nil {
				r.log.Info("lost the event stream of containerd, subscribing again", "error", err)
			}
			if !r.waitServing(ctx) {
				return
			}
		}
	}()
	return hints
}

// waitServing waits until containerd answers, or ctx ends (then false).
func (r *Runtime) waitServing(ctx context.Context) bool {
	for ctx.Err() == nil {
		// Bounded, so that a containerd that accepts and does not answer is asked again.
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		ok, err := r.client.IsServing(try)
		cancel()
		if ok && err == nil {
			r.m.up.Set(1)
			return true
		}
		r.m.up.Set(0)
		if pause(ctx, 100*time.Millisecond) != nil {
			return false
		}
	}
	return false
}

// subscribe passes hints on until the stream breaks.
func (r *Runtime) subscribe(ctx context.Context, hints chan<- string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ns := fmt.Sprintf(",namespace==%q", r.c.Namespace)
	stream, errs := r.client.Subscribe(ctx,
		fmt.Sprintf("topic==%q", topicExit)+ns, fmt.Sprintf("topic==%q", topicOOM)+ns, fmt.Sprintf("topic==%q", topicProbe)+ns)

	token := rand.Text()
	probe := time.NewTicker(50 * time.Millisecond)
	defer probe.Stop()
	working := false
	ask := func() error {
		return r.client.EventService().Publish(ctx, topicProbe, &apievents.NamespaceUpdate{Name: token})
	}
	if err := ask(); err != nil {
		return err
	}
	for {
		select {
		case e := <-stream:
			if e.Topic == topicProbe {
				if !working && probeToken(e) == token {
					working = true
					probe.Stop()
					if !send(ctx, hints, "") {
						return ctx.Err()
					}
				}
				continue
			}
			id := r.eventTask(e)
			if id != "" && !send(ctx, hints, id) {
				return ctx.Err()
			}
		case err := <-errs:
			return err
		case <-probe.C:
			if working {
				continue
			}
			if err := ask(); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func send(ctx context.Context, hints chan<- string, id string) bool {
	select {
	case hints <- id:
		return true
	case <-ctx.Done():
		return false
	}
}

// eventTask is the task an event is about; "" when it is about none of ours, or about an
// exec, whose end changes nothing.
func (r *Runtime) eventTask(e *events.Envelope) string {
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		return ""
	}
	r.m.eventLastSeen.SetToCurrentTime()
	switch event := v.(type) {
	case *apievents.TaskExit:
		r.m.events.WithLabelValues("exit").Inc()
		if event.ID != event.ContainerID {
			return ""
		}
		return taskOf(event.ContainerID)
	case *apievents.TaskOOM:
		r.m.events.WithLabelValues("oom").Inc()
		return taskOf(event.ContainerID)
	}
	return ""
}

func probeToken(e *events.Envelope) string {
	v, err := typeurl.UnmarshalAny(e.Event)
	if err != nil {
		return ""
	}
	if u, ok := v.(*apievents.NamespaceUpdate); ok {
		return u.Name
	}
	return ""
}
