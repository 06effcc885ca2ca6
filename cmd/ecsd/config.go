package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ecsd/pkg/agent"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show every setting and where it came from",
		Long: `Show what the agent would be told: every setting, its value and where that came
from (flag, environment, file, default). It takes the agent's flags. Secrets are not
shown. Exit code 3 when a setting is wrong or unknown.`,
		GroupID: groupOther,
		Args:    cobra.NoArgs,
	}
	agent.Flags(cmd.Flags())
	out := outputFlag(cmd, formTable, formJSON, formYAML)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, settings, warnings, err := agent.Load(cmd.Flags(), os.Environ())
		for i := range settings {
			if settings[i].Secret && settings[i].Value != "" {
				settings[i].Value = "(not shown)"
			}
		}
		if out.value != formTable {
			if printErr := printValue(cmd.OutOrStdout(), out.value, settings); printErr != nil {
				return printErr
			}
		} else {
			t := newTable("VARIABLE", "VALUE", "FROM")
			for _, s := range settings {
				if s.NoEffect == "" {
					t.add(s.Variable, s.Value, s.Origin)
				}
			}
			if printErr := t.print(cmd.OutOrStdout(), ""); printErr != nil {
				return printErr
			}
		}
		for _, w := range warnings {
			cmd.PrintErrln("ecsd: warning: " + w)
		}
		if err != nil {
			return &exitError{exitInvalid, "configuration:\n  " + strings.ReplaceAll(err.Error(), "\n", "\n  ")}
		}
		return nil
	}
	return cmd
}
