package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
	"ecsd/pkg/spec"
)

func newRestartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restart SERVICE|TASK...",
		Short: "Replace the tasks of a service, or one task",
		Long: `Replace tasks by new ones of the same definition. A service is rolled within its
minimum and maximum percentages, as when its definition changes. A single task is
stopped, and its service makes another; a task without a service cannot be
restarted, because an ECS task never comes back.`,
		GroupID: groupAct,
		Args:    cobra.MinimumNArgs(1),
	}
	client := socketFlag(cmd)
	cmd.ValidArgsFunction = completeTargets(client, false, kindService, kindTask)
	wait := addWaitFlags(cmd, "the roll has ended")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := client()
		defer c.Close()
		n, err := look(cmd.Context(), c)
		if err != nil {
			return err
		}
		var targets []target
		for _, arg := range args {
			t, err := n.find(arg, kindService, kindTask)
			if err != nil {
				return err
			}
			if t.kind == kindTask {
				switch x := t.tasks[0]; {
				case x.Service == "":
					return &localapi.Error{Code: localapi.CodeConflict, Message: "task " + shortID(t.name) + " belongs to no service, so nothing would replace it: use ecsd stop"}
				case x.LastStatus == spec.StatusStopped:
					return &localapi.Error{Code: localapi.CodeConflict, Message: "task " + shortID(t.name) + " has stopped, and a task never comes back: restart service " + x.Service}
				}
			}
			targets = append(targets, t)
		}
		ctx, cancel := wait.context(cmd.Context())
		defer cancel()
		for _, t := range targets {
			if err := restart(ctx, c, t, wait.wait); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), t.kind+"/"+clean(t.name)); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func restart(ctx context.Context, c *localapi.Client, t target, wait bool) error {
	if t.kind == kindTask {
		if _, err := c.StopTask(ctx, t.name, "Task restarted by user"); err != nil || !wait {
			return err
		}
		return waitStopped(ctx, c, []string{t.name})
	}
	if _, err := c.RestartService(ctx, t.name); err != nil || !wait {
		return err
	}
	before := ""
	if len(t.service.Deployments) > 0 {
		before = t.service.Deployments[0].ID
	}
	return waitRolled(ctx, c, t.name, before)
}

// waitRolled waits until the first deployment of a service after the one named before has
// ended, and tells how.
func waitRolled(ctx context.Context, c *localapi.Client, name, before string) error {
	mine := ""
	return waitUntil(ctx, c, func(ctx context.Context) (bool, error) {
		services, err := c.Services(ctx)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(services, func(s spec.ServiceStatus) bool { return s.ServiceName == name })
		if i < 0 {
			return false, &localapi.Error{Code: localapi.CodeNotFound, Message: "service " + name + " is gone: its manifest was removed"}
		}
		deployments := services[i].Deployments
		if mine == "" {
			if len(deployments) == 0 || deployments[0].ID == before {
				return false, nil // not yet begun
			}
			mine = deployments[0].ID
		}
		i = slices.IndexFunc(deployments, func(d spec.DeploymentStatus) bool { return d.ID == mine })
		switch {
		case i < 0:
			return false, &exitError{exitFailure, "service " + name + ": another deployment has taken the place of this one: see ecsd describe " + name}
		case deployments[i].RolloutState == spec.RolloutCompleted:
			return true, nil
		case deployments[i].RolloutState == spec.RolloutFailed:
			return false, &exitError{exitFailure, "service " + name + ": the restart failed: " + deployments[i].RolloutStateReason}
		}
		return false, nil
	})
}
