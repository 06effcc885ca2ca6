package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const docsFile = "../../docs/cli.md"

// TestDocs holds docs/cli.md against the commands; -update writes it.
func TestDocs(t *testing.T) {
	want := commandDocs()
	if *update {
		if err := os.WriteFile(docsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(docsFile)
	if err != nil || string(have) != want {
		t.Errorf("%s does not tell of the commands as they are (%v): run go test ./cmd/ecsd -run TestDocs -update", docsFile, err)
	}
}

// TestHelp: each command and flag explains itself, and belongs to a group of the help.
func TestHelp(t *testing.T) {
	for _, c := range newRootCommand().Commands() {
		if c.Name() == "completion" || c.Name() == "help" {
			continue // cobra's own
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.GroupID == "" {
			t.Errorf("%s: Short %q, group %q: want a phrase without a full stop, and a group", c.Name(), c.Short, c.GroupID)
		}
		if c.Args == nil && c.ValidArgsFunction == nil {
			t.Errorf("%s: neither says which arguments it takes nor completes them", c.Name())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s: has no text", c.Name(), f.Name)
			}
		})
		for _, line := range strings.Split(c.Long+"\n"+c.Example, "\n") {
			if len([]rune(line)) > 90 {
				t.Errorf("%s: help line of %d characters: %s", c.Name(), len(line), line)
			}
		}
	}
}

// commandDocs is the page of all commands.
func commandDocs() string {
	root := newRootCommand()
	var b strings.Builder
	b.WriteString("# Commands\n\n<!-- Generated from the commands themselves: go test ./cmd/ecsd -run TestDocs -update -->\n\n")
	b.WriteString("```\n" + root.Long + "\n```\n")
	b.WriteString(`
Commands that look or act talk to the agent over its unix socket (` + "`--socket`, `ECSD_SOCKET`" + `). Whoever may open
the socket may look; root and the agent's own user may act, and every acting call is in the agent's log with user and
process. A task is named by its id, the beginning of its id, or its ARN; ` + "`task/ID`, `service/NAME` and `family/NAME`" + ` say
the kind where a name could be several things. Members of JSON and YAML output have the names of the ECS API; values of
environment variables are masked in all of it.

| exit code | meaning |
|---|---|
`)
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", c.code, c.meaning)
	}
	for _, g := range root.Groups() {
		fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(g.Title, ":"))
		for _, c := range root.Commands() {
			if c.GroupID == g.ID && c.Name() != "help" && !c.Hidden {
				documentCommand(&b, c)
			}
		}
	}
	return b.String()
}

func documentCommand(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n### ecsd %s\n\n", c.Name())
	if c.Name() == "completion" {
		b.WriteString("Prints the completion script of a shell: `ecsd completion bash|zsh|fish|powershell`. Names of services and ids of\ntasks are completed as the agent knows them at that moment.\n")
		return
	}
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	fmt.Fprintf(b, "```\n%s\n```\n", c.UseLine())
	for part := range strings.SplitSeq(long, "\n\n") {
		if strings.HasPrefix(part, "  ") { // a table of its own
			part = "```\n" + part + "\n```"
		}
		b.WriteString("\n" + part + "\n")
	}
	if c.Example != "" {
		fmt.Fprintf(b, "\n```\n%s\n```\n", strings.TrimRight(c.Example, "\n"))
	}
	b.WriteString("\n| flag | default | |\n|---|---|---|\n")
	c.Flags().VisitAll(func(f *pflag.Flag) {
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		def := f.DefValue
		if def == "" || def == "false" || def == "[]" {
			def = ""
		} else {
			def = "`" + def + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, def, strings.ReplaceAll(f.Usage, "|", "\\|"))
	})
}

var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "ok"},
	{exitFailure, "failure, or the condition asked for is false"},
	{exitUsage, "wrong call"},
	{exitInvalid, "a manifest is refused"},
	{exitNotFound, "no such task, service or file"},
	{exitUnreachable, "the agent cannot be reached"},
	{exitDenied, "not allowed"},
	{exitConflict, "not possible in the present state"},
	{exitTimeout, "`--timeout` is over"},
	{exitInterrupted, "interrupted"},
}
