package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"ecsd/pkg/localapi"
)

// reconnectPause is how long a follower waits before it tries a stopped agent again.
const reconnectPause = 500 * time.Millisecond

// follower prints logs as they grow, each in a goroutine of its own that ends with
// followAll. An agent that restarts is waited for: nothing is lost or repeated, because
// each log goes on after the time of its last line.
type follower struct {
	client *localapi.Client
	out    *logPrinter
	o      localapi.LogOptions
	errOut io.Writer
	away   sync.Once // says once that the agent is away
}

// followAll follows the streams, and those that more finds after each event. Without more
// it ends when all have ended, else with ctx.
func (f *follower) followAll(ctx context.Context, streams []stream, more func(node) []stream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil) // before wg.Wait
	known := map[string]bool{}
	begin := func(streams []stream, o localapi.LogOptions) {
		for _, s := range streams {
			if known[s.key()] {
				continue
			}
			known[s.key()] = true
			wg.Go(func() {
				if err := f.follow(ctx, s, o, len(streams)); err != nil {
					cancel(err)
				}
			})
		}
	}
	begin(streams, f.o)
	if more == nil {
		wg.Wait()
		return context.Cause(ctx)
	}
	all := f.o
	all.Tail = -1 // of a task that is new nothing is left out
	for ctx.Err() == nil {
		err := waitUntil(ctx, f.client, func(ctx context.Context) (bool, error) {
			n, err := look(ctx, f.client)
			if err == nil {
				begin(more(n), all)
			}
			return false, err
		})
		if localapi.CodeOf(err) != localapi.CodeUnavailable {
			return err
		}
		f.pause(ctx)
	}
	return context.Cause(ctx)
}

// follow prints one log until its task has stopped.
func (f *follower) follow(ctx context.Context, s stream, o localapi.LogOptions, streams int) error {
	for {
		var failure error
		for line, err := range f.client.Logs(ctx, s.task.TaskID, s.container, o) {
			if err != nil {
				failure = err
				break
			}
			if !line.Time.IsZero() && !line.More {
				o.Since, o.Tail = line.Time.Add(time.Nanosecond), -1
			}
			if err := f.out.print(s, line); err != nil {
				return err
			}
		}
		switch {
		case ctx.Err() != nil, failure == nil, skippable(failure, streams):
			return nil
		case localapi.CodeOf(failure) != localapi.CodeUnavailable:
			return failure
		}
		f.pause(ctx)
	}
}

func (f *follower) pause(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	f.away.Do(func() { fmt.Fprintln(f.errOut, "ecsd: the agent does not answer: waiting for it to come back") })
	select {
	case <-ctx.Done():
	case <-time.After(reconnectPause):
	}
}
