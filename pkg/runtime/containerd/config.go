package containerd

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ecsd/pkg/runtime"
)

// PullBehavior says when Pull asks the registry for an image that is here already
// (ECS_IMAGE_PULL_BEHAVIOR).
type PullBehavior string

// The pull behaviours of the Amazon ECS agent.
const (
	PullDefault      PullBehavior = "default"       // ask; when that fails take what is here
	PullAlways       PullBehavior = "always"        // ask; when that fails the task fails
	PullOnce         PullBehavior = "once"          // ask only if it was never pulled on this machine
	PullPreferCached PullBehavior = "prefer-cached" // take what is here, ask only if nothing is
)

// Config says what a Runtime works on. Every path is absolute.
type Config struct {
	Address   string // containerd's socket; default /run/containerd/containerd.sock
	Namespace string // in containerd; default ecsd

	DataDir string // default /var/lib/ecsd
	RunDir  string // on tmpfs; default /run/ecsd
	LogDir  string // default /var/log/ecs

	CgroupParent string // default /ecs; under systemd part of the slices' names

	Bridge           string       // default ecsd0
	BridgeCIDR       netip.Prefix // default 172.30.0.0/16
	DynamicPortRange [2]uint16    // zero: net.ipv4.ip_local_port_range
	ReservedPorts    []uint16     // TCP ports of the host that no container gets
	ReservedPortsUDP []uint16     // and UDP ports

	RuntimeBinary string // runc, crun or the path of one; default runc
	Snapshotter   string // default overlayfs, or native where the kernel or file system has no overlay
	LogBinary     string // path of ecsd-log; "" discards what containers print
	InitBinary    string // path of the binary that becomes init in containers; default LogBinary

	PullBehavior     PullBehavior  // default "default"
	PullStallTimeout time.Duration // a pull without progress for so long fails; default 1m
	HostsDir         string        // hosts.toml by registry; default /etc/containerd/certs.d
	// Progress is told how many bytes of a pull have come, of how many known so far. It
	// is called from many goroutines, at most every 100 ms a pull, and must not block.
	Progress func(ref string, done, total int64)

	LogMaxSize int64 // bytes a log file may have; default 10 MiB
	LogMaxFile int   // log files a container keeps; default 5

	SeccompArches string // all or native; default all
	AppArmor      string // profile; "" leaves containers unconfined
	PidsLimit     int64  // processes a container may have; 0 is no limit
	TaskPidsLimit int64  // processes the containers of a task may have together; 0 is no limit
	NoPrivileged  bool   // refuse privileged containers (ECS_DISABLE_PRIVILEGED)

	// Now is the clock; default runtime.Now.
	Now        func() runtime.Time
	Registerer prometheus.Registerer // nil: metrics are kept and not shown
	Logger     *slog.Logger          // nil: nothing is logged
}

func (c Config) withDefaults() Config {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.Address, "/run/containerd/containerd.sock")
	def(&c.Namespace, "ecsd")
	def(&c.DataDir, "/var/lib/ecsd")
	def(&c.RunDir, "/run/ecsd")
	def(&c.LogDir, "/var/log/ecs")
	def(&c.CgroupParent, "/ecs")
	def(&c.Bridge, "ecsd0")
	def(&c.RuntimeBinary, "runc")
	def(&c.HostsDir, "/etc/containerd/certs.d")
	def(&c.SeccompArches, "all")
	def(&c.InitBinary, c.LogBinary)
	def((*string)(&c.PullBehavior), string(PullDefault))
	c.Address = strings.TrimPrefix(c.Address, "unix://")
	if !c.BridgeCIDR.IsValid() {
		c.BridgeCIDR = netip.MustParsePrefix("172.30.0.0/16")
	}
	if c.PullStallTimeout <= 0 {
		c.PullStallTimeout = time.Minute
	}
	if c.LogMaxSize <= 0 {
		c.LogMaxSize = 10 << 20
	}
	if c.LogMaxFile <= 0 {
		c.LogMaxFile = 5
	}
	if c.Now == nil {
		c.Now = runtime.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// check reports every fault of the configuration at once.
func (c Config) check() error {
	var errs []error
	for name, path := range map[string]string{
		"Address": c.Address, "DataDir": c.DataDir, "RunDir": c.RunDir, "LogDir": c.LogDir,
	} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s %q is not an absolute path", name, path))
		}
	}
	for name, path := range map[string]string{"LogBinary": c.LogBinary, "InitBinary": c.InitBinary} {
		if path != "" && !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s %q is not an absolute path", name, path))
		}
	}
	switch c.PullBehavior {
	case PullDefault, PullAlways, PullOnce, PullPreferCached:
	default:
		errs = append(errs, fmt.Errorf("PullBehavior %q is none of default, always, once, prefer-cached", c.PullBehavior))
	}
	if _, err := exec.LookPath(c.RuntimeBinary); err != nil {
		errs = append(errs, fmt.Errorf("OCI runtime: %w (install it, or name another one)", err))
	}
	return errors.Join(errs...)
}
