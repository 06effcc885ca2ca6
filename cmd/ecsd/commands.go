package main

import "github.com/spf13/cobra"

// Groups of commands in the help.
const (
	groupRun       = "run"
	groupManifests = "manifests"
	groupLook      = "look"
	groupAct       = "act"
	groupOther     = "other"
)

// commands lists the constructors of all commands. A new command is one file and one line
// here.
func commands() []func() *cobra.Command {
	return []func() *cobra.Command{
		newValidateCommand,
		newRenderCommand,
		newPsCommand,
		newDescribeCommand,
		newLogsCommand,
		newEventsCommand,
		newStatusCommand,
		newStopCommand,
		newRestartCommand,
		newWaitCommand,
		newAgentCommand,
		newConfigCommand,
		newVersionCommand,
	}
}
