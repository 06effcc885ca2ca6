// Package agent is one node, wired: it builds every part, starts every goroutine and
// stops them in order.
//
//	manifest.Dir ─► desired ─► service.Services ─► reconcile.Reconciler ─► runtime/containerd
//	                               ▲   │ ports          │ views     ▲
//	                               │   └────────────────┼───────────┤
//	                               └── statuses ────────┤           │ checks
//	                                                    ├─► health.Prober
//	                 localapi, introspect ◄── snapshots ┘
//
// Ending an agent ends no task.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"ecsd/pkg/health"
	"ecsd/pkg/introspect"
	"ecsd/pkg/localapi"
	"ecsd/pkg/manifest"
	"ecsd/pkg/reconcile"
	"ecsd/pkg/runtime"
	"ecsd/pkg/runtime/containerd"
	"ecsd/pkg/secrets"
	"ecsd/pkg/service"
	"ecsd/pkg/spec"
)

// Build is what the agent says of itself.
type Build struct {
	Version, Revision string
}

// Run is the whole life of an agent: it returns when ctx ends (nil), or with the reason it
// could not go on. Tasks are left running either way.
func Run(ctx context.Context, c Config, warnings []string, build Build) error {
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{c.DataDir, 0o700}, {c.RunDir, 0o755}, {c.LogDir, 0o755}} {
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return err
		}
	}
	release, err := lock(c)
	if err != nil {
		return err
	}
	defer release()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log, logFile := newLogger(c)
	defer logFile.Close()
	if err := sameMounts(c.Containerd); err != nil {
		return err
	}
	log.Info("ecsd agent starts", "version", build.Version, "pid", os.Getpid(), "manifests", c.Manifests, "datadir", c.DataDir, "containerd", c.Containerd)
	for _, w := range warnings {
		log.Warn(w)
	}
	n, err := newNode(ctx, c, build, log)
	if err != nil {
		return err
	}
	defer n.close()
	err = n.run(ctx)
	log.Info("ecsd agent ends; tasks are left running", "reason", errorText(err))
	return err
}

// gcPercent keeps the agent's heap near what it holds: it is idle nearly always, and a
// host's memory is its tasks'. See docs/performance.md.
const gcPercent = 30

func errorText(err error) string {
	if err == nil {
		return "asked to"
	}
	return err.Error()
}

// node is what Run builds.
type node struct {
	c       Config
	build   Build
	log     *slog.Logger
	started time.Time
	closers []io.Closer

	registry   *prometheus.Registry
	metrics    *metrics
	runtime    *containerd.Runtime
	records    *reconcile.Records
	registries *secrets.Registry
	services   *service.Services
	manifests  *manifest.Dir
	prober     *health.Prober
	reconciler *reconcile.Reconciler
	events     *localapi.Events
	versions   atomic.Pointer[runtime.Versions]
	notify     notifier
}

func newNode(ctx context.Context, c Config, build Build, log *slog.Logger) (n *node, err error) {
	n = &node{c: c, build: build, log: log, started: time.Now(), registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	n.metrics = newMetrics(n.registry)
	n.notify = newNotifier(log)
	n.events = localapi.NewEvents(nil)
	if n.registries, err = secrets.NewRegistry(secrets.RegistryConfig{
		AuthType: c.EngineAuthType, AuthData: c.EngineAuthData, DockerConfig: secrets.DockerConfigPath(os.Getenv),
	}); err != nil {
		return nil, err
	}
	if n.records, err = reconcile.OpenRecords(c.DataDir, runtime.Now); err != nil {
		return nil, err
	}
	logBinary, err := besides("ecsd-log")
	if err != nil {
		return nil, err
	}
	if n.runtime, err = containerd.New(ctx, containerd.Config{
		Address: c.Containerd, Namespace: c.Namespace,
		DataDir: c.DataDir, RunDir: c.RunDir, LogDir: c.LogDir,
		CgroupParent: c.CgroupParent, Bridge: c.Bridge, BridgeCIDR: c.BridgeCIDR,
		DynamicPortRange: c.DynamicHostPorts, ReservedPorts: c.ReservedPorts, ReservedPortsUDP: c.ReservedPortsUDP,
		RuntimeBinary: c.Runtime, LogBinary: logBinary,
		PullBehavior: containerd.PullBehavior(c.PullBehavior), PullStallTimeout: c.PullInactivity, HostsDir: c.HostsDir,
		SeccompArches: c.SeccompArches, AppArmor: appArmorProfile(), PidsLimit: c.PidsLimit, TaskPidsLimit: c.TaskPidsLimit, NoPrivileged: c.NoPrivileged,
		Registerer: n.registry, Logger: log,
	}); err != nil {
		return nil, err
	}
	n.closers = append(n.closers, n.runtime)
	if err := n.buildLoops(); err != nil {
		return nil, err
	}
	return n, nil
}

// besides finds a program of ours: beside this one, else in PATH.
func besides(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not beside %s: install both into one directory", name, self)
	}
	return path, nil
}

func (n *node) close() {
	for _, c := range n.closers {
		_ = c.Close()
	}
}

// run starts everything and waits. The first part that fails ends the others.
func (n *node) run(ctx context.Context) error {
	listeners, err := introspect.Listen(ctx, n.c.IntrospectionListen)
	if err != nil {
		return fmt.Errorf("introspection port: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	part := func(name string, run func(context.Context) error) {
		g.Go(func() error {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %w", name, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s ended by itself", name)
			}
			return nil
		})
	}
	httpMetrics := introspect.NewMetrics(n.registry)
	part("introspection", func(ctx context.Context) error {
		return introspect.Serve(ctx, listeners, introspect.Handler(n.introspection(httpMetrics)), n.log)
	})
	if n.c.MetricsListen != "" {
		public, err := introspect.Listen(ctx, []string{n.c.MetricsListen})
		if err != nil {
			return fmt.Errorf("--metrics-listen: %w", err)
		}
		part("metrics", func(ctx context.Context) error {
			return introspect.ServeMetrics(ctx, public, introspect.MetricsHandler(n.registry, httpMetrics, n.log), n.c.MetricsWebConfig, n.log)
		})
	}
	part("socket", localapi.New(n.localAPI(httpMetrics)).Run)
	part("runtime", n.runtime.Run)
	part("health checks", n.prober.Run)
	part("manifests", func(ctx context.Context) error { return n.manifests.Run(ctx, n.setDesired) })
	part("reconciler", n.reconciler.Run)
	part("watchdog", n.watch)
	err = g.Wait()
	n.notify.stopping()
	return err
}

func (n *node) event(e spec.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	n.events.Add(e)
	level := slog.LevelInfo
	if e.Type == spec.EventWarning {
		level = slog.LevelWarn
	}
	n.log.Log(context.Background(), level, e.Message, "object", e.Object, "reason", e.Reason)
}

func (n *node) info() localapi.Info {
	info := localapi.Info{
		Version: n.build.Version, Revision: n.build.Revision, GoVersion: goruntime.Version(), PID: os.Getpid(), StartedAt: n.started,
		Cluster: n.c.Cluster, Manifests: n.c.Manifests, DataDir: n.c.DataDir, LogDir: n.c.LogDir,
	}
	if v := n.versions.Load(); v != nil {
		info.Containerd, info.Runtime = v.Containerd, v.Runtime
	}
	if err := n.ready(); err != nil {
		info.NotReady = err.Error()
	}
	return info
}

// ready says why the agent is not ready; nil when it is: the manifests have been read,
// every task has been looked at, and containerd answers.
func (n *node) ready() error {
	switch {
	case !n.manifests.Ready():
		return errors.New("the manifest directory has not been read yet: see ecsd status")
	case !n.reconciler.Ready():
		return fmt.Errorf("containerd at %s does not answer, or has not shown all tasks yet", n.c.Containerd)
	}
	return nil
}
