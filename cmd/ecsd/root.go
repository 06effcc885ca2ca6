package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// newRootCommand builds the tree of commands. It is built anew for each run and holds no
// state of its own.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ecsd",
		Short: "Run Amazon ECS task definitions on containerd",
		Long: `ecsd runs Amazon ECS task definitions on containerd, without Docker.

An agent (ecsd agent) keeps what runs on this machine equal to a directory of
manifests. The other commands check manifests, show what the agent does and why,
and act on single tasks.

Exit codes: 0 ok, 1 failure or condition false, 2 usage, 3 validation, 4 not
found, 5 agent unreachable, 6 denied, 7 conflict, 124 timeout, 130 interrupted.`,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		SilenceUsage:               true,
		Args:                       cobra.ArbitraryArgs, // RunE says what is wrong with them
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			msg := "unknown command " + quote(args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				msg += ": did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef(cmd, "%s", msg)
		},
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run:"},
		&cobra.Group{ID: groupManifests, Title: "Manifests:"},
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupAct, Title: "Act:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	for _, newCommand := range commands() {
		root.AddCommand(newCommand())
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%s", err) })
	usageArgs(root)
	return root
}

// usageArgs makes an error about the number of arguments a usage error, in all commands.
func usageArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef(cmd, "%s", err)
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		usageArgs(c)
	}
}
