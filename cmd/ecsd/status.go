package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
)

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what became of every manifest file",
		Long: `Show every file of the agent's manifest directory: accepted, or refused or ignored
and why. Exit code 1 when one is refused, or the agent is not ready.`,
		GroupID: groupLook,
		Args:    cobra.NoArgs,
	}
	client := socketFlag(cmd)
	out := outputFlag(cmd, formTable, formJSON, formYAML)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c := client()
		defer c.Close()
		info, err := c.Info(cmd.Context())
		if err != nil {
			return err
		}
		files, err := c.Manifests(cmd.Context())
		if err != nil {
			return err
		}
		if out.value == formTable {
			err = printStatus(cmd.OutOrStdout(), info, files)
		} else {
			err = printValue(cmd.OutOrStdout(), out.value, map[string]any{"agent": info, "manifests": files})
		}
		if err != nil {
			return err
		}
		if refused := countRefused(files); refused > 0 || info.NotReady != "" {
			return &exitError{code: exitFailure}
		}
		return nil
	}
	return cmd
}

func refused(f localapi.ManifestFile) bool {
	return f.Status != localapi.FileAccepted && f.Status != localapi.FileIgnored
}

func countRefused(files []localapi.ManifestFile) (n int) {
	for _, f := range files {
		if refused(f) {
			n++
		}
	}
	return n
}

// printStatus prints a line a file, and below the table every reason in full.
func printStatus(w io.Writer, info localapi.Info, files []localapi.ManifestFile) error {
	t := newTable("FILE", "STATUS", "DEFINES", "REASON")
	for _, f := range files {
		why := f.Reasons
		if len(why) == 0 {
			why = f.Warnings
		}
		short := ""
		if len(why) > 0 {
			short = why[0]
			if len(why) > 1 {
				short += fmt.Sprintf(" (and %d more, below)", len(why)-1)
			}
		}
		t.add(f.Path, f.Status, strings.Join(f.Documents, ", "), short)
	}
	if err := t.print(w, ""); err != nil {
		return err
	}
	var b strings.Builder
	for _, f := range files {
		if len(f.Reasons)+len(f.Warnings) < 2 && !f.KeptGood {
			continue
		}
		b.WriteString("\n" + clean(f.Path) + ":\n")
		if f.KeptGood {
			b.WriteString("  its last good content stays in force\n")
		}
		for _, r := range f.Reasons {
			b.WriteString("  " + clean(r) + "\n")
		}
		for _, r := range f.Warnings {
			b.WriteString("  warning: " + clean(r) + "\n")
		}
	}
	if info.NotReady != "" {
		b.WriteString("\nThe agent is not ready: " + clean(info.NotReady) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
