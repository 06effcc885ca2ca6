package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
	"ecsd/pkg/spec"
)

// Conditions of `ecsd wait`.
const (
	forRunning = "running"
	forHealthy = "healthy"
	forStable  = "stable"
	forStopped = "stopped"
)

const (
	// settle is how long a condition must hold before it counts: a container that was
	// killed just before the command is then missed.
	settle = 200 * time.Millisecond
	// agentPatience is how long an agent that does not answer is waited for: it may just
	// be starting.
	agentPatience = 10 * time.Second
	// agentRetry is the pause between two tries to reach it.
	agentRetry = 100 * time.Millisecond
)

func newWaitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wait --for=CONDITION [TASK|SERVICE]...",
		Short: "Wait until tasks and services are as they should be",
		Long: `Wait until all that is named meets a condition; without names, all services and tasks
of the agent. The manifests are read first, as they are when the command begins.

  running  the task runs; the service has as many running tasks as it wants
  healthy  the same, and each task with a health check is healthy
  stable   the service's newest deployment is complete and no older one is left;
           a task runs
  stopped  no task is left that has not stopped

Exit code 1 as soon as the condition cannot be met any more (the task has stopped,
the deployment has failed), 124 when --timeout is over. An agent that does not answer
is waited for ten seconds.`,
		Example: `  ecsd wait --for=stable --timeout 2m web
  ecsd wait --for=stopped`,
		GroupID: groupAct,
	}
	client := socketFlag(cmd)
	cmd.ValidArgsFunction = completeTargets(client, false, kindService, kindTask)
	conditions := []string{forRunning, forHealthy, forStable, forStopped}
	condition := &form{value: forStable, allowed: conditions}
	cmd.Flags().Var(condition, "for", "condition: "+strings.Join(conditions, ", "))
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(conditions, cobra.ShellCompDirectiveNoFileComp))
	var timeout time.Duration
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this time, with exit code 124; 0 waits for ever")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := client()
		defer c.Close()
		w := &waiter{client: c, condition: condition.value, names: args}
		ctx := cmd.Context()
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, timeout, errWaited)
			defer cancel()
		}
		if err := w.wait(ctx); err != nil {
			if errors.Is(err, errWaited) && w.why != "" {
				return &exitError{exitTimeout, "timed out: " + w.why}
			}
			return err
		}
		return nil
	}
	return cmd
}

// waiter waits for one condition.
type waiter struct {
	client    *localapi.Client
	condition string
	names     []string

	synced bool      // the manifests have been read since the command began
	why    string    // what the condition lacked when it was last looked at
	since  time.Time // since when it lacks nothing
	found  []target  // what the names meant when they were first found
}

func (w *waiter) wait(ctx context.Context) error {
	for {
		err := waitUntil(ctx, w.client, w.check)
		if localapi.CodeOf(err) != localapi.CodeUnavailable {
			return err
		}
		if err := w.awaitAgent(ctx, err); err != nil {
			return err
		}
	}
}

// awaitAgent waits until the agent answers; when it does not, the result is why.
func (w *waiter) awaitAgent(ctx context.Context, err error) error {
	deadline := time.After(agentPatience)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline:
			return err
		case <-time.After(agentRetry):
			if _, err = w.client.Info(ctx); localapi.CodeOf(err) != localapi.CodeUnavailable {
				return nil
			}
		}
	}
}

// check reports whether the condition holds, and has held for a while.
func (w *waiter) check(ctx context.Context) (bool, error) {
	for {
		met, err := w.look(ctx)
		if err != nil || !met {
			w.since = time.Time{}
			return false, err
		}
		if w.since.IsZero() {
			w.since = time.Now()
		}
		left := settle - time.Since(w.since)
		if left <= 0 {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(left):
		}
	}
}

// look reports whether the condition holds now; if not, why says what it lacks.
func (w *waiter) look(ctx context.Context) (bool, error) {
	info, err := w.client.Info(ctx)
	if err != nil {
		return false, err
	}
	if info.NotReady != "" {
		// It has not read its manifests yet, or does not see its containers.
		w.why = "the agent is not ready: " + info.NotReady
		return false, nil
	}
	if !w.synced {
		if err := w.client.Sync(ctx); err != nil {
			return false, err
		}
		w.synced = true
	}
	n, err := look(ctx, w.client)
	if err != nil {
		return false, err
	}
	targets, err := w.targets(n)
	if err != nil {
		return false, err
	}
	w.why = ""
	for _, t := range targets {
		why, err := lacks(w.condition, t)
		if err != nil {
			return false, err
		}
		if why != "" && w.why == "" {
			w.why = t.kind + " " + shown(t) + ": " + why
		}
	}
	return w.why == "", nil
}

// targets are what the names mean now. A name that was found once may be gone later: a
// service whose manifest was removed, and then it has no tasks.
func (w *waiter) targets(n node) ([]target, error) {
	if len(w.names) == 0 {
		return everything(n), nil
	}
	first := w.found == nil
	var out []target
	for i, name := range w.names {
		t, err := n.find(name, kindService, kindTask)
		switch {
		case err == nil:
		case first:
			return nil, err
		default:
			t = target{kind: w.found[i].kind, name: w.found[i].name}
		}
		out = append(out, t)
	}
	w.found = out
	return out, nil
}

// everything is all services, and the tasks that belong to none and live.
func everything(n node) []target {
	var out []target
	for _, s := range n.services {
		t, err := n.find(kindService+"/"+s.ServiceName, kindService)
		if err == nil {
			out = append(out, t)
		}
	}
	for _, t := range n.tasks {
		if t.Service == "" && t.LastStatus != spec.StatusStopped {
			out = append(out, target{kind: kindTask, name: t.TaskID, tasks: []spec.TaskStatus{t}})
		}
	}
	return out
}

func shown(t target) string {
	if t.kind == kindTask {
		return shortID(t.name)
	}
	return t.name
}

// lacks says what a target still lacks of a condition, "" when it meets it. An error says
// that it never will.
func lacks(condition string, t target) (string, error) {
	if condition == forStopped {
		if n := len(t.live()); n > 0 {
			return count(n, "task") + " not yet stopped", nil
		}
		return "", nil
	}
	if t.kind == kindTask {
		return taskLacks(condition, t)
	}
	return serviceLacks(condition, t)
}

func taskLacks(condition string, t target) (string, error) {
	if len(t.tasks) == 0 {
		return "", never(t, "is gone")
	}
	x := t.tasks[0]
	switch {
	case x.LastStatus == spec.StatusStopped || x.DesiredStatus == spec.StatusStopped:
		return "", never(t, "has stopped: "+x.StoppedReason)
	case x.LastStatus != spec.StatusRunning:
		return "is " + x.LastStatus + because(x.Waiting), nil
	case condition == forHealthy && !healthy(x):
		return "is " + x.HealthStatus, nil
	}
	return "", nil
}

func serviceLacks(condition string, t target) (string, error) {
	s := t.service
	if s == nil {
		return "", never(t, "is gone: its manifest was removed")
	}
	if len(s.Deployments) > 0 && s.Deployments[0].RolloutState == spec.RolloutFailed {
		return "", never(t, "its deployment failed: "+s.Deployments[0].RolloutStateReason)
	}
	if s.RunningCount < s.DesiredCount || s.PendingCount > 0 && condition == forStable {
		return fmt.Sprintf("%d of %d tasks run, %d pending%s", s.RunningCount, s.DesiredCount, s.PendingCount, because(s.Waiting)), nil
	}
	switch condition {
	case forHealthy:
		for _, x := range t.live() {
			if !healthy(x) {
				return "task " + shortID(x.TaskID) + " is " + x.HealthStatus, nil
			}
		}
	case forStable:
		switch {
		case s.RunningCount > s.DesiredCount:
			return fmt.Sprintf("%d tasks run, %d wanted", s.RunningCount, s.DesiredCount), nil
		case len(s.Deployments) != 1:
			return count(len(s.Deployments), "deployment") + " under way" + because(s.Waiting), nil
		case s.Deployments[0].RolloutState != spec.RolloutCompleted:
			return "its deployment is " + s.Deployments[0].RolloutState + because(s.Waiting), nil
		}
	}
	return "", nil
}

// healthy reports whether a task runs and none of its health checks has another verdict
// than HEALTHY. A task without health checks stays UNKNOWN, and is as healthy as can be.
func healthy(t spec.TaskStatus) bool {
	if t.LastStatus != spec.StatusRunning {
		return false
	}
	for _, c := range t.Containers {
		if c.HealthStatus == spec.HealthUnhealthy {
			return false
		}
	}
	return t.HealthStatus != spec.HealthUnhealthy && (t.HealthStatus == spec.HealthHealthy || !checked(t))
}

// checked reports whether a container of the task has a health check whose verdict is out.
func checked(t spec.TaskStatus) bool {
	for _, c := range t.Containers {
		if c.HealthStatus != "" {
			return true
		}
	}
	return false
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func never(t target, why string) error {
	return &exitError{exitFailure, t.kind + " " + shown(t) + ": " + strings.TrimSuffix(why, ": ")}
}
