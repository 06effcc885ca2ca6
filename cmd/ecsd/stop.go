package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newStopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop TASK|SERVICE...",
		Short: "Stop tasks",
		Long: `Stop tasks: the stop signal, then SIGKILL after the container's stopTimeout. Of a
service all tasks are stopped.

What manifests say stays in force: a service replaces a task that was stopped. To
have less of it, change its desiredCount, or remove its file.`,
		GroupID: groupAct,
		Args:    cobra.MinimumNArgs(1),
	}
	client := socketFlag(cmd)
	cmd.ValidArgsFunction = completeTargets(client, false, kindTask, kindService)
	wait := addWaitFlags(cmd, "the tasks have stopped")
	var why string
	cmd.Flags().StringVar(&why, "reason", "", "reason to record (default \"Task stopped by user\")")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := client()
		defer c.Close()
		n, err := look(cmd.Context(), c)
		if err != nil {
			return err
		}
		var targets []target // all are found before any is stopped
		for _, arg := range args {
			t, err := n.find(arg, kindService, kindTask)
			if err != nil {
				return err
			}
			targets = append(targets, t)
		}
		var ids []string
		services := map[string]bool{}
		for _, t := range targets {
			for _, x := range t.live() {
				if _, err := c.StopTask(cmd.Context(), x.TaskID, why); err != nil {
					return err
				}
				ids = append(ids, x.TaskID)
				if x.Service != "" && !services[x.Service] {
					services[x.Service] = true
					fmt.Fprintf(cmd.ErrOrStderr(), "ecsd: service %s will start another task in its place\n", clean(x.Service))
				}
			}
		}
		if wait.wait && len(ids) > 0 {
			ctx, cancel := wait.context(cmd.Context())
			defer cancel()
			if err := waitStopped(ctx, c, ids); err != nil {
				return err
			}
		}
		for _, id := range ids {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), id); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}
