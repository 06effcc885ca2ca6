package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func load(t *testing.T, file string, env []string, args ...string) (Config, []Setting, []string, error) {
	t.Helper()
	flags := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	Flags(flags)
	if file != "" {
		path := filepath.Join(t.TempDir(), "ecs.config")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(flags, env)
}

func TestLoadPrefersFlagThenEnvironmentThenFile(t *testing.T) {
	file := "ECS_DATADIR=/from/file\nECS_CLUSTER='blue'\n# a comment\nECSD_RUN_DIR=/run/file\nECS_CONTAINER_STOP_TIMEOUT=45s\n"
	c, settings, warnings, err := load(t, file, []string{"ECS_DATADIR=/from/env", "ECSD_RUN_DIR=/run/env", "HOME=/root"}, "--datadir", "/from/flag")
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if c.DataDir != "/from/flag" || c.RunDir != "/run/env" || c.Cluster != "blue" || c.StopTimeout != 45*time.Second || c.LogDir != "/var/log/ecs" {
		t.Errorf("wrong precedence: %+v", c)
	}
	origins := map[string]string{}
	for _, s := range settings {
		origins[s.Variable] = s.Origin
	}
	for variable, want := range map[string]string{"ECS_DATADIR": "flag", "ECSD_RUN_DIR": "environment", "ECS_CLUSTER": "file", "ECSD_LOG_DIR": "default"} {
		if origins[variable] != want {
			t.Errorf("origin of %s: %s, want %s", variable, origins[variable], want)
		}
	}
}

func TestLoadNamesEveryBadSetting(t *testing.T) {
	env := []string{
		"ECSD_BRIDGE_CIDR=172.30.0.0/33", "ECS_RESERVED_PORTS=[22,99999]", "ECSD_INTROSPECTION_LISTEN=0.0.0.0:51678",
		"ECS_IMAGE_PULL_BEHAVIOR=sometimes", "ECSD_MANIFEST=/x", "ECSD_BRIDGE=a-very-long-bridge",
	}
	_, _, _, err := load(t, "ECS_CONTAINER_STOP_TIMEOUT=10ms\nNOT_OURS=1\n", env)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`ECSD_BRIDGE_CIDR (from environment): "172.30.0.0/33": must be an IPv4 network`,
		`ECS_RESERVED_PORTS (from environment): "[22,99999]": must be a list of ports`,
		`"0.0.0.0:51678": the introspection port is for this host only; use --metrics-listen`,
		`"sometimes": must be one of default, always, once, prefer-cached`,
		"ECSD_MANIFEST: there is no such setting (did you mean ECSD_MANIFESTS?)",
		"ECSD_BRIDGE (from environment)",
		`ECS_CONTAINER_STOP_TIMEOUT (from file): "10ms": must be a duration of at least 1s`,
		"NOT_OURS: there is no such setting",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func TestLoadWarnsOfKnownSettingsWithoutEffect(t *testing.T) {
	_, _, warnings, err := load(t, "DOCKER_HOST=unix:///x\nHTTPS_PROXY=http://p\nAWS_DEFAULT_REGION=x\n", []string{"ECS_WARM_POOLS_CHECK=true"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(warnings, "\n"); !strings.Contains(got, "DOCKER_HOST has no effect: there is no Docker") || !strings.Contains(got, "ECS_WARM_POOLS_CHECK has no effect") || len(warnings) != 2 {
		t.Errorf("warnings:\n%s", got)
	}
}

func TestLoadRefusesAFileThatIsNotOne(t *testing.T) {
	for file, want := range map[string]string{"just words\n": ":1: must be KEY=VALUE", "A=1\nA=2\n": ":2: A is set twice"} {
		if _, _, _, err := load(t, file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
	if _, _, _, err := load(t, "", nil, "--config", "/does/not/exist"); err == nil || !strings.Contains(err.Error(), "configuration file") {
		t.Errorf("a missing file that was asked for: %v", err)
	}
	if _, _, _, err := load(t, "", nil); err != nil {
		t.Errorf("a missing default file: %v", err)
	}
}
