package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// Flags declares on set a flag for each setting that has one, with its default in the
// help text, and the flag --config. Load reads those that were given.
func Flags(set *pflag.FlagSet) {
	set.String("config", DefaultConfigFile, "configuration file, KEY=VALUE lines")
	for _, v := range variables() {
		if v.flag == "" {
			continue
		}
		usage := v.meaning + " (" + v.name + ")"
		if v.def == "true" || v.def == "false" {
			set.Bool(v.flag, v.def == "true", usage)
		} else {
			set.String(v.flag, v.def, usage)
		}
	}
}

// Load resolves the configuration: flags over environment over file over default. A
// missing file is an error only when it was asked for by flag. It returns every setting
// with its origin and the warnings about known settings without effect; the error names
// all settings that are wrong or unknown, not just the first.
func Load(flags *pflag.FlagSet, environ []string) (Config, []Setting, []string, error) {
	file := map[string]string{}
	var problems []error
	if path, asked := configFile(flags); path != "" {
		var err error
		file, err = readConfigFile(path)
		if err != nil && (asked || !errors.Is(err, fs.ErrNotExist)) {
			problems = append(problems, err)
		}
	}
	env := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}

	var c Config
	var settings []Setting
	var warnings []string
	known := map[string]bool{}
	for _, v := range variables() {
		known[v.name] = true
		s := Setting{Variable: v.name, Flag: v.flag, Value: v.def, Origin: "default", Meaning: v.meaning, NoEffect: v.noEffect, Secret: v.secret}
		if value, ok := file[v.name]; ok {
			s.Value, s.Origin = value, "file"
		}
		if value, ok := env[v.name]; ok {
			s.Value, s.Origin = value, "environment"
		}
		if v.flag != "" && flags != nil && flags.Changed(v.flag) {
			s.Value, s.Origin = flags.Lookup(v.flag).Value.String(), "flag"
		}
		switch {
		case v.set != nil:
			if err := v.set(&c, s.Value); err != nil {
				problems = append(problems, fmt.Errorf("%s (from %s): %w", settingName(v, s.Origin), s.Origin, err))
			}
		case s.Origin != "default":
			warnings = append(warnings, fmt.Sprintf("%s has no effect: %s", v.name, v.noEffect))
		}
		settings = append(settings, s)
	}
	for _, name := range unknown(file, env, known) {
		problems = append(problems, fmt.Errorf("%s: there is no such setting%s", name, suggestion(name, known)))
	}
	return c, settings, warnings, errors.Join(problems...)
}

func configFile(flags *pflag.FlagSet) (path string, asked bool) {
	if flags == nil {
		return DefaultConfigFile, false
	}
	f := flags.Lookup("config")
	if f == nil {
		return DefaultConfigFile, false
	}
	return f.Value.String(), f.Changed
}

func settingName(v variable, origin string) string {
	if origin == "flag" {
		return "--" + v.flag
	}
	return v.name
}

// unknown lists what looks like a setting of ours and is none: any key of the file, and
// variables of the environment named ECS_ or ECSD_. What a task finds in its own
// environment is left out, for an agent that is itself run in one.
func unknown(file, env map[string]string, known map[string]bool) []string {
	var names []string
	for name := range file {
		if !known[name] && !environmentOfAgent(name) {
			names = append(names, name)
		}
	}
	for name := range env {
		ours := strings.HasPrefix(name, "ECS_") || strings.HasPrefix(name, "ECSD_")
		if ours && !known[name] && !strings.HasPrefix(name, "ECS_CONTAINER_METADATA_") && name != "ECS_AGENT_URI" {
			names = append(names, name)
		}
	}
	return sorted(names)
}

// environmentOfAgent are the keys of an ecs.config that are meant for libraries.
func environmentOfAgent(name string) bool {
	return strings.HasPrefix(name, "AWS_") || strings.HasSuffix(strings.ToUpper(name), "_PROXY")
}

func readConfigFile(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	values := map[string]string{}
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(scanner.Text(), "\ufeff"))
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, fmt.Errorf("%s:%d: must be KEY=VALUE", path, n)
		}
		if _, double := values[name]; double {
			return nil, fmt.Errorf("%s:%d: %s is set twice", path, n, name)
		}
		values[name] = unquote(strings.TrimSpace(value))
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return values, nil
}

// unquote takes off one pair of quotes around a whole value, as systemd's EnvironmentFile does.
func unquote(v string) string {
	if len(v) >= 2 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
		return v[1 : len(v)-1]
	}
	return v
}
