package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ecsd/pkg/agent"
)

func newAgentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Converge a directory of manifests",
		Long: `Keep what runs on this machine equal to a directory of manifests, on containerd.

Settings come from flags, then the environment, then the configuration file
(KEY=VALUE lines, as the Amazon ECS agent's), then defaults. SIGTERM ends the agent
and leaves its tasks running; the next agent takes them up again.`,
		GroupID: groupRun,
		Args:    cobra.NoArgs,
	}
	agent.Flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, _, warnings, err := agent.Load(cmd.Flags(), os.Environ())
		if err != nil {
			return &exitError{exitUsage, "configuration:\n  " + strings.ReplaceAll(err.Error(), "\n", "\n  ")}
		}
		if os.Geteuid() != 0 {
			return &exitError{exitDenied, "the agent must run as root: it makes namespaces, cgroups and firewall rules"}
		}
		// A reader of our output that goes away must not end the agent.
		signal.Ignore(syscall.SIGPIPE)
		err = agent.Run(cmd.Context(), c, warnings, agent.Build{Version: version, Revision: thisBuild().Revision})
		if errors.Is(err, agent.ErrLocked) {
			return &exitError{exitConflict, err.Error()}
		}
		if err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		return nil
	}
	return cmd
}
