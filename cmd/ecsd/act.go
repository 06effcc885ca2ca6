package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
	"ecsd/pkg/spec"
)

// waitFlags are --wait and --timeout of commands that act.
type waitFlags struct {
	wait    bool
	timeout time.Duration
}

func addWaitFlags(cmd *cobra.Command, until string) *waitFlags {
	f := &waitFlags{}
	cmd.Flags().BoolVar(&f.wait, "wait", true, "wait until "+until)
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "give up waiting after this time, with exit code 124; 0 waits for ever")
	return f
}

// context is that of the command, with the timeout.
func (f *waitFlags) context(ctx context.Context) (context.Context, context.CancelFunc) {
	if f.timeout > 0 {
		return context.WithTimeoutCause(ctx, f.timeout, errWaited)
	}
	return context.WithCancel(ctx)
}

var errWaited = &exitError{exitTimeout, "timed out: what was asked goes on, ecsd describe tells how far it is"}

// recheck bounds how late a change is noticed whose event was lost.
const recheck = 2 * time.Second

// waitUntil asks done at once and again after events of the agent, until it says so or
// fails; many events at a time are one. Then its error is returned, or the cause of ctx's
// end, or why the agent's events ended.
func waitUntil(ctx context.Context, c *localapi.Client, done func(context.Context) (bool, error)) error {
	watch, stop := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		for _, err := range c.Events(watch, localapi.EventFilter{Watch: true}) {
			if err != nil {
				ended <- err
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		ended <- nil
	}()
	watching := true
	defer func() {
		stop()
		if watching {
			<-ended
		}
	}()
	for {
		ok, err := done(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			watching = false
			if err == nil {
				err = context.Cause(ctx)
			}
			return err
		case <-changed:
		case <-time.After(recheck):
		}
	}
}

// waitStopped waits until none of the tasks is left.
func waitStopped(ctx context.Context, c *localapi.Client, ids []string) error {
	return waitUntil(ctx, c, func(ctx context.Context) (bool, error) {
		tasks, err := c.Tasks(ctx, localapi.TaskFilter{})
		return err == nil && !slices.ContainsFunc(tasks, func(t spec.TaskStatus) bool { return slices.Contains(ids, t.TaskID) }), err
	})
}
