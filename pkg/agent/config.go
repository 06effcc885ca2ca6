package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Config is everything an agent can be told. Load fills it; its zero value is not usable.
type Config struct {
	Manifests  string // directory of manifests
	AllowEmpty bool   // an empty manifest directory means "run nothing"
	Cluster    string

	DataDir string // state that survives a reboot
	RunDir  string // state that does not: namespaces, locks
	LogDir  string // the agent's log and the containers'
	Socket  string // where the CLI reaches the agent

	IntrospectionListen []string // host:port, loopback
	MetricsListen       string   // host:port for /metrics off the host; "" for none
	MetricsWebConfig    string   // Prometheus web-config file for MetricsListen

	Containerd   string // address of containerd
	Namespace    string // containerd namespace
	Runtime      string // OCI runtime: runc, crun or a path
	CgroupParent string
	Bridge       string
	BridgeCIDR   netip.Prefix
	HostsDir     string // registry hosts, containerd's certs.d layout

	PullBehavior     string
	PullInactivity   time.Duration
	PullTimeout      time.Duration
	EngineAuthType   string
	EngineAuthData   string
	DynamicHostPorts [2]uint16 // zero: the kernel's ephemeral range
	ReservedPorts    []uint16
	ReservedPortsUDP []uint16
	ReservedMemory   int    // MiB
	PidsLimit        int64  // of a container
	TaskPidsLimit    int64  // of a task; 0: none
	SeccompArches    string // all or native

	StopTimeout   time.Duration
	CleanupWait   time.Duration
	CleanupJitter time.Duration
	DrainPause    time.Duration
	SteadyAfter   time.Duration
	NoPrivileged  bool // refuse privileged containers

	LogLevel     slog.Level
	LogFormat    string // text or json
	LogMaxSizeMB int
	LogMaxFiles  int
}

// Setting is one variable as it was resolved, for `ecsd config` and the start-up log.
type Setting struct {
	Variable string `json:"variable"`
	Flag     string `json:"flag,omitempty"`
	Value    string `json:"value"`
	Origin   string `json:"origin"` // default, file, environment or flag
	Meaning  string `json:"meaning,omitempty"`
	NoEffect string `json:"noEffect,omitempty"` // why it has none here; "" when it has one
	Secret   bool   `json:"secret,omitempty"`   // Value must not be shown
}

// variable is one thing that can be set: by flag, by environment variable of its name, or
// by a line of the configuration file.
type variable struct {
	name     string
	flag     string // "" when there is none
	def      string
	meaning  string
	secret   bool
	noEffect string
	set      func(c *Config, value string) error
}

// DefaultConfigFile is where the Amazon agent keeps its settings too.
const DefaultConfigFile = "/etc/ecs/ecs.config"

func variables() []variable {
	return append([]variable{
		{name: "ECSD_MANIFESTS", flag: "manifests", def: "/etc/ecs/manifests", meaning: "directory of manifests", set: path(func(c *Config) *string { return &c.Manifests })},
		{name: "ECSD_ALLOW_EMPTY", flag: "allow-empty", def: "false", meaning: "an empty manifest directory stops everything", set: boolean(func(c *Config) *bool { return &c.AllowEmpty })},
		{name: "ECS_CLUSTER", def: "default", meaning: "cluster name in labels and ARNs", set: text(func(c *Config) *string { return &c.Cluster })},
		{name: "ECS_DATADIR", flag: "datadir", def: "/var/lib/ecsd", meaning: "state directory", set: path(func(c *Config) *string { return &c.DataDir })},
		{name: "ECSD_RUN_DIR", flag: "run-dir", def: "/run/ecsd", meaning: "directory for what a reboot ends, on tmpfs", set: path(func(c *Config) *string { return &c.RunDir })},
		{name: "ECSD_LOG_DIR", flag: "log-dir", def: "/var/log/ecs", meaning: "directory of the agent's and the containers' logs", set: path(func(c *Config) *string { return &c.LogDir })},
		{name: "ECSD_SOCKET", flag: "socket", def: "/run/ecsd/agent.sock", meaning: "socket of the agent", set: path(func(c *Config) *string { return &c.Socket })},
		{name: "ECSD_INTROSPECTION_LISTEN", flag: "introspection-listen", def: "127.0.0.1:51678,[::1]:51678", meaning: "addresses of the read-only port, separated by commas; none to have none", set: listen},
		{name: "ECSD_METRICS_LISTEN", flag: "metrics-listen", meaning: "address that serves /metrics to other hosts", set: text(func(c *Config) *string { return &c.MetricsListen })},
		{name: "ECSD_METRICS_WEB_CONFIG", flag: "metrics-web-config", meaning: "Prometheus web-config file (TLS, basic auth) for --metrics-listen", set: text(func(c *Config) *string { return &c.MetricsWebConfig })},
		{name: "ECSD_CONTAINERD_ADDRESS", flag: "containerd", def: "/run/containerd/containerd.sock", meaning: "containerd's socket", set: path(func(c *Config) *string { return &c.Containerd })},
		{name: "ECSD_CONTAINERD_NAMESPACE", flag: "containerd-namespace", def: "ecsd", meaning: "containerd namespace", set: word(func(c *Config) *string { return &c.Namespace })},
		{name: "ECSD_RUNTIME", flag: "runtime", def: "runc", meaning: "OCI runtime: runc, crun or a path", set: text(func(c *Config) *string { return &c.Runtime })},
		{name: "ECSD_CGROUP_PARENT", flag: "cgroup-parent", def: "/ecs", meaning: "cgroup above all tasks", set: path(func(c *Config) *string { return &c.CgroupParent })},
		{name: "ECSD_BRIDGE", flag: "bridge", def: "ecsd0", meaning: "name of the bridge, and of the nftables table", set: bridge},
		{name: "ECSD_BRIDGE_CIDR", flag: "bridge-cidr", def: "172.30.0.0/16", meaning: "IPv4 network of the bridge", set: cidr},
		{name: "ECSD_REGISTRY_HOSTS_DIR", flag: "registry-hosts-dir", def: "/etc/containerd/certs.d", meaning: "registry mirrors and certificates, as containerd's hosts.toml", set: path(func(c *Config) *string { return &c.HostsDir })},
		{name: "ECSD_SECCOMP_ARCHES", def: "all", meaning: "architectures of the seccomp profile: all, or native (faster; kills 32-bit programs)", set: choice(func(c *Config) *string { return &c.SeccompArches }, "all", "native")},
		{name: "ECSD_DRAIN_PAUSE", def: "1s", meaning: "pause between a task leaving its service's steady port and its stop signal", set: duration(func(c *Config) *time.Duration { return &c.DrainPause }, 0)},
		{name: "ECSD_STEADY_AFTER", def: "1s", meaning: "how long a task without health check runs before it counts as healthy", set: duration(func(c *Config) *time.Duration { return &c.SteadyAfter }, 0)},
		{name: "ECS_IMAGE_PULL_BEHAVIOR", def: "default", meaning: "default, always, once or prefer-cached", set: choice(func(c *Config) *string { return &c.PullBehavior }, "default", "always", "once", "prefer-cached")},
		{name: "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", def: "1m", meaning: "a pull without progress for so long is given up and tried again", set: duration(func(c *Config) *time.Duration { return &c.PullInactivity }, time.Second)},
		{name: "ECS_IMAGE_PULL_TIMEOUT", def: "2h", meaning: "time a pull may take in all", set: duration(func(c *Config) *time.Duration { return &c.PullTimeout }, time.Second)},
		{name: "ECS_ENGINE_AUTH_TYPE", meaning: "format of ECS_ENGINE_AUTH_DATA: dockercfg or docker", set: choice(func(c *Config) *string { return &c.EngineAuthType }, "", "dockercfg", "docker")},
		{name: "ECS_ENGINE_AUTH_DATA", secret: true, meaning: "registry credentials", set: text(func(c *Config) *string { return &c.EngineAuthData })},
		{name: "ECS_DYNAMIC_HOST_PORT_RANGE", meaning: "ports for hostPort 0, as first-last; the kernel's ephemeral range when not set", set: portRange},
		{name: "ECS_RESERVED_PORTS", def: "[22,51678,51679]", meaning: "TCP ports that no task gets", set: ports(func(c *Config) *[]uint16 { return &c.ReservedPorts })},
		{name: "ECS_RESERVED_PORTS_UDP", def: "[]", meaning: "UDP ports that no task gets", set: ports(func(c *Config) *[]uint16 { return &c.ReservedPortsUDP })},
		{name: "ECS_RESERVED_MEMORY", def: "0", meaning: "MiB of the host's memory that tasks do not get", set: integer(func(c *Config) *int { return &c.ReservedMemory }, 0, 1<<30)},
		{name: "ECSD_CONTAINER_PIDS_LIMIT", def: "4096", meaning: "processes a container may have", set: pids(func(c *Config) *int64 { return &c.PidsLimit })},
		{name: "ECS_TASK_PIDS_LIMIT", meaning: "processes the containers of a task may have together; no limit when not set", set: pids(func(c *Config) *int64 { return &c.TaskPidsLimit })},
		{name: "ECS_CONTAINER_STOP_TIMEOUT", def: "30s", meaning: "time from the stop signal to SIGKILL where the container names none", set: duration(func(c *Config) *time.Duration { return &c.StopTimeout }, time.Second)},
		{name: "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", def: "3h", meaning: "how long a stopped task's containers and logs are kept", set: duration(func(c *Config) *time.Duration { return &c.CleanupWait }, time.Second)},
		{name: "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER", def: "0s", meaning: "random extra on top of it", set: duration(func(c *Config) *time.Duration { return &c.CleanupJitter }, 0)},
		{name: "ECS_DISABLE_PRIVILEGED", def: "false", meaning: "refuse privileged containers", set: boolean(func(c *Config) *bool { return &c.NoPrivileged })},
		{name: "ECS_LOGLEVEL", flag: "log-level", def: "info", meaning: "debug, info, warn or error", set: level},
		{name: "ECS_LOG_OUTPUT_FORMAT", flag: "log-format", def: "text", meaning: "text (or logfmt) or json", set: choice(func(c *Config) *string { return &c.LogFormat }, "text", "json", "logfmt")},
		{name: "ECS_LOG_MAX_FILE_SIZE_MB", def: "10", meaning: "size at which the agent's log file is rotated", set: integer(func(c *Config) *int { return &c.LogMaxSizeMB }, 1, 1<<20)},
		{name: "ECS_LOG_MAX_ROLL_COUNT", def: "5", meaning: "rotated files of the agent's log that are kept", set: integer(func(c *Config) *int { return &c.LogMaxFiles }, 1, 1000)},
	}, variablesWithoutEffect()...)
}

// The setters parse one value and say what would have been right.

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error { *field(c) = v; return nil }
}

func path(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v == "" {
			return fmt.Errorf("must not be empty")
		}
		abs, err := filepath.Abs(v)
		if err != nil {
			return err
		}
		*field(c) = abs
		return nil
	}
}

func word(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v == "" || len(v) > 64 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
			return fmt.Errorf("%q: must be 1 to 64 letters, digits, dots, hyphens or underscores", v)
		}
		*field(c) = v
		return nil
	}
}

func boolean(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%q: must be true or false", v)
		}
		*field(c) = b
		return nil
	}
}

func integer(field func(*Config) *int, least, most int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q: must be a whole number from %d to %d", v, least, most)
		}
		*field(c) = n
		return nil
	}
}

func duration(field func(*Config) *time.Duration, least time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < least {
			return fmt.Errorf("%q: must be a duration of at least %v, like 90s or 2h", v, least)
		}
		*field(c) = d
		return nil
	}
}

func choice(field func(*Config) *string, values ...string) func(*Config, string) error {
	return func(c *Config, v string) error {
		for _, allowed := range values {
			if v == allowed {
				*field(c) = v
				return nil
			}
		}
		return fmt.Errorf("%q: must be one of %s", v, strings.TrimPrefix(strings.Join(values, ", "), ", "))
	}
}

func listen(c *Config, v string) error {
	c.IntrospectionListen = nil
	if v == "none" || v == "" {
		return nil
	}
	for address := range strings.SplitSeq(v, ",") {
		ap, err := netip.ParseAddrPort(strings.TrimSpace(address))
		if err != nil {
			return fmt.Errorf("%q: must be addresses with a port like 127.0.0.1:51678, separated by commas", address)
		}
		if !ap.Addr().IsLoopback() {
			return fmt.Errorf("%q: the introspection port is for this host only; use --metrics-listen to be scraped from others", address)
		}
		c.IntrospectionListen = append(c.IntrospectionListen, ap.String())
	}
	return nil
}

func bridge(c *Config, v string) error {
	// Names of the veth pairs are made of it, and a name of an interface has 15 bytes.
	if v == "" || len(v) > 10 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return fmt.Errorf("%q: must be 1 to 10 lower-case letters, digits, hyphens or underscores", v)
	}
	c.Bridge = v
	return nil
}

func cidr(c *Config, v string) error {
	p, err := netip.ParsePrefix(v)
	if err != nil || !p.Addr().Is4() || p.Bits() > 28 || p.Bits() < 8 {
		return fmt.Errorf("%q: must be an IPv4 network from /8 to /28, like 172.30.0.0/16", v)
	}
	c.BridgeCIDR = p.Masked()
	return nil
}

func portRange(c *Config, v string) error {
	if v == "" {
		return nil
	}
	first, last, _ := strings.Cut(v, "-")
	a, errA := strconv.ParseUint(first, 10, 16)
	b, errB := strconv.ParseUint(last, 10, 16)
	if errA != nil || errB != nil || a == 0 || a >= b {
		return fmt.Errorf("%q: must be two ports, first-last", v)
	}
	c.DynamicHostPorts = [2]uint16{uint16(a), uint16(b)}
	return nil
}

func ports(field func(*Config) *[]uint16) func(*Config, string) error {
	return func(c *Config, v string) error {
		list := []uint16{}
		for s := range strings.SplitSeq(strings.Trim(v, "[] "), ",") {
			if s = strings.TrimSpace(s); s == "" {
				continue
			}
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil || n == 0 {
				return fmt.Errorf("%q: must be a list of ports like [22,51678]", v)
			}
			list = append(list, uint16(n))
		}
		*field(c) = list
		return nil
	}
}

func pids(field func(*Config) *int64) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v == "" {
			return nil
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 || n > 4194304 {
			return fmt.Errorf("%q: must be a whole number from 1 to 4194304", v)
		}
		*field(c) = n
		return nil
	}
}

func level(c *Config, v string) error {
	switch v {
	case "crit", "critical":
		v = "error"
	case "none":
		c.LogLevel = slog.LevelError + 100
		return nil
	}
	if err := c.LogLevel.UnmarshalText([]byte(v)); err != nil {
		return fmt.Errorf("%q: must be debug, info, warn or error", v)
	}
	return nil
}

// cores is the number of CPUs tasks can be given.
func cores() int { return runtime.NumCPU() }
