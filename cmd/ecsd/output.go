package main

import (
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"
)

// Forms of output, the values of -o.
const (
	formTable = "table"
	formWide  = "wide"
	formJSON  = "json"
	formYAML  = "yaml"
	formName  = "name"
)

// form is the value of a command's -o flag.
type form struct {
	value   string
	allowed []string
}

func (f *form) String() string { return f.value }
func (f *form) Type() string   { return "form" }
func (f *form) Set(v string) error {
	if !slices.Contains(f.allowed, v) {
		return &exitError{exitUsage, "must be one of " + strings.Join(f.allowed, ", ")}
	}
	f.value = v
	return nil
}

// outputFlag gives a command -o; the first of the forms is the default.
func outputFlag(cmd *cobra.Command, forms ...string) *form {
	f := &form{value: forms[0], allowed: forms}
	cmd.Flags().VarP(f, "output", "o", "form of the output: "+strings.Join(forms, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	return f
}

// printValue prints v as JSON or YAML.
func printValue(w io.Writer, form string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if form == formYAML {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return err
		}
	}
	_, err = w.Write(b)
	return err
}

// isTerminal reports whether w is a terminal: only there are colours shown and control
// characters of log lines taken out.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
