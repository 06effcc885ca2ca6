package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ecsd/pkg/spec"
)

// defaultManifests is the agent's manifest directory when nothing else is said.
const defaultManifests = "/etc/ecs/manifests"

func newValidateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate [FILE|DIR|-]...",
		Short: "Check manifests, without an agent",
		Long: `Check task definitions and services in files, directories, or standard input (-):
what the agent would refuse, and why, all of it at once, each error as
file:line:col: field: reason. Members that are accepted but have no effect are told
as warnings. Without arguments it checks the manifest directory (ECSD_MANIFESTS,
default ` + defaultManifests + `).

Exit code 3 when something is refused.`,
		Example: `  ecsd validate web.yaml
  ecsd validate examples/
  aws ecs describe-task-definition --task-definition web | ecsd validate -`,
		GroupID: groupManifests,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	out := outputFlag(cmd, formTable, formJSON, formYAML)
	var quiet bool
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print errors only")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{manifestDir()}
		}
		list, err := sources(args)
		if err != nil {
			return err
		}
		files := validate(list, cmd.InOrStdin())
		if out.value != formTable {
			err = printValue(cmd.OutOrStdout(), out.value, map[string]any{"files": files})
		} else {
			err = printVerdicts(cmd.OutOrStdout(), cmd.ErrOrStderr(), files, quiet)
		}
		if err != nil {
			return err
		}
		for _, f := range files {
			if len(f.Errors) > 0 {
				return &exitError{code: exitInvalid}
			}
		}
		return nil
	}
	return cmd
}

func manifestDir() string {
	if dir := os.Getenv("ECSD_MANIFESTS"); dir != "" {
		return filepath.Clean(dir)
	}
	return defaultManifests
}

// fileVerdict is what validate finds out about one file.
type fileVerdict struct {
	Path      string            `json:"path"`
	Valid     bool              `json:"valid"`
	Documents []documentVerdict `json:"documents"`
	Errors    spec.Errors       `json:"errors"`

	docs    []spec.Document
	fromDir bool
}

// documentVerdict is one document that could be read.
type documentVerdict struct {
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	Warnings []string `json:"warnings"`
}

// validate checks each file by itself and then all of them together.
func validate(list []source, stdin io.Reader) []*fileVerdict {
	files := make([]*fileVerdict, 0, len(list))
	for _, s := range list {
		f := &fileVerdict{Path: s.name, Documents: []documentVerdict{}, Errors: spec.Errors{}, fromDir: s.fromDir}
		files = append(files, f)
		data, err := s.read(stdin)
		if err != nil {
			f.fail(err)
			continue
		}
		docs, err := spec.Load(s.name, data)
		if err != nil {
			f.fail(err)
		}
		for _, d := range docs {
			f.docs = append(f.docs, d)
			v := documentVerdict{Kind: d.Kind, Name: d.Name, Warnings: append([]string{}, d.NotCarriedOut()...)}
			f.Documents = append(f.Documents, v)
		}
	}
	together(files)
	for _, f := range files {
		f.Valid = len(f.Errors) == 0
	}
	return files
}

func (f *fileVerdict) fail(err error) {
	if all, ok := errors.AsType[spec.Errors](err); ok {
		f.Errors = append(f.Errors, all...)
		return
	}
	f.Errors = append(f.Errors, &spec.FieldError{File: f.Path, Reason: err.Error()})
}

func (f *fileVerdict) failAt(d spec.Document, path, reason string) {
	f.Errors = append(f.Errors, d.Locate(spec.Errors{{Path: path, Reason: reason}})...)
}

// together checks what only shows with several documents: the same name twice, and a
// service whose definition is missing or does not fit it. A definition may be missing when
// only single files were given: the rest of the directory may have it.
func together(files []*fileVerdict) {
	first := map[string]string{} // kind and name → file
	definitions := map[string]spec.TaskDefinition{}
	whole := false
	for _, f := range files {
		whole = whole || f.fromDir
		for _, d := range f.docs {
			if d.Name == "" {
				continue
			}
			key := d.Kind + " " + d.Name
			if other, ok := first[key]; ok && other != f.Path {
				field := "family"
				if d.Kind == spec.KindService {
					field = "serviceName"
				}
				f.failAt(d, field, d.Kind+" "+quote(d.Name)+" is defined in "+other+" too: the agent refuses both")
				continue
			}
			first[key] = f.Path
			if d.TaskDefinition != nil {
				definitions[d.Name] = d.TaskDefinition.Defaulted()
			}
		}
	}
	for _, f := range files {
		for i, d := range f.docs {
			if d.Service == nil {
				continue
			}
			family, _, ok := spec.ParseTaskDefinitionRef(d.Service.TaskDefinition)
			if !ok {
				continue // Load has told
			}
			td, known := definitions[family]
			switch {
			case known && len(d.Check()) == 0:
				f.Errors = append(f.Errors, d.Locate(spec.ValidateService(*d.Service, &td))...)
			case !known && whole:
				f.failAt(d, "taskDefinition", "there is no task definition of family "+quote(family)+" in the directory")
			case !known:
				f.Documents[i].Warnings = append(f.Documents[i].Warnings, "taskDefinition: family "+quote(family)+" is in none of the files given")
			}
		}
	}
}

// printVerdicts prints errors and warnings to standard error, and how many there were to
// standard output.
func printVerdicts(stdout, stderr io.Writer, files []*fileVerdict, quiet bool) error {
	invalid := 0
	for _, f := range files {
		if len(f.Errors) > 0 {
			invalid++
		}
		for _, e := range f.Errors {
			fmt.Fprintln(stderr, clean(e.Error()))
		}
		if quiet {
			continue
		}
		for _, d := range f.Documents {
			for _, w := range d.Warnings {
				fmt.Fprintln(stderr, clean("warning: "+f.Path+": "+d.Kind+" "+d.Name+": "+w))
			}
		}
	}
	if quiet {
		return nil
	}
	_, err := fmt.Fprintf(stdout, "%s checked, %d refused\n", count(len(files), "file"), invalid)
	return err
}

// count is a number of things, "1 file", "2 files".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
