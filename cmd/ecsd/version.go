package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the build: -ldflags "-X main.version=v1.2.3 -X main.revision=0123abcd".
var (
	version  = "dev"
	revision = "" // "" is what the Go toolchain has written down
)

// build is what this binary was made of.
type build struct {
	Version   string `json:"version"`
	Revision  string `json:"revision,omitempty"`
	GoVersion string `json:"goVersion"`
	Platform  string `json:"platform"`
}

// thisBuild is what the build has set, else what the Go toolchain has written into the binary.
func thisBuild() build {
	b := build{Version: version, Revision: revision[:min(12, len(revision))], GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok || b.Revision != "" {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value[:min(12, len(s.Value))] + b.Revision
		case "vcs.modified":
			if s.Value == "true" {
				b.Revision += "-dirty"
			}
		}
	}
	return b
}

func newVersionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this binary",
		GroupID: groupOther,
		Args:    cobra.NoArgs,
	}
	out := outputFlag(cmd, formTable, formJSON, formYAML)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b := thisBuild()
		if out.value != formTable {
			return printValue(cmd.OutOrStdout(), out.value, b)
		}
		line := "ecsd " + b.Version
		if b.Revision != "" {
			line += " (" + b.Revision + ")"
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), line, b.GoVersion, b.Platform)
		return err
	}
	return cmd
}
