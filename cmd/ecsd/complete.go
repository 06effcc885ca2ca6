package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
	"ecsd/pkg/spec"
)

// completeTimeout bounds how long a key press waits for the agent.
const completeTimeout = 2 * time.Second

// completeTargets completes names of services and families and ids of tasks, as the agent
// knows them now. Without an agent it completes nothing.
func completeTargets(client func() *localapi.Client, stopped bool, kinds ...string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		c := client()
		defer c.Close()
		n, err := look(ctx, c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []cobra.Completion
		add := func(name, what string) {
			if strings.HasPrefix(name, typed) && !slices.Contains(args, name) {
				out = append(out, cobra.CompletionWithDesc(clean(name), clean(what)))
			}
		}
		if slices.Contains(kinds, kindService) {
			for _, s := range n.services {
				add(s.ServiceName, "service")
			}
		}
		if slices.Contains(kinds, kindTask) {
			for _, t := range n.tasks {
				if stopped || t.LastStatus != spec.StatusStopped {
					add(shortID(t.TaskID), definition(t.Family, t.Revision)+" "+t.LastStatus)
				}
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
