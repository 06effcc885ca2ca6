package containerd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/platforms"

	"ecsd/pkg/runtime"
	"ecsd/pkg/runtime/containerd/cgroup"
	"ecsd/pkg/runtime/containerd/network"
	"ecsd/pkg/spec"
)

// Runtime runs containers on containerd. Its methods may be called from any goroutine;
// those that change a task serialise by task.
type Runtime struct {
	c        Config
	log      *slog.Logger
	m        *metrics
	client   *client.Client
	cgroups  *cgroup.Tree
	network  *network.Network
	host     hostFacts
	platform platforms.MatchComparer
	ociPath  string // absolute path of the OCI runtime

	tasks  locks // by task id
	pulls  locks // by image reference
	images imageCache

	mu          sync.Mutex
	snapshotter string          // found out on first use
	registries  map[string]bool // hosts that have a metric label of their own
	binary      string          // version of the OCI runtime, found out on first use

	trash chan struct{} // signals that there is something to delete
}

var (
	_ runtime.Runtime  = (*Runtime)(nil)
	_ runtime.Execer   = (*Runtime)(nil)
	_ runtime.Statser  = (*Runtime)(nil)
	_ runtime.Images   = (*Runtime)(nil)
	_ runtime.Balancer = (*Runtime)(nil)
	_ runtime.Pinger   = (*Runtime)(nil)
)

// New makes a Runtime. It opens the network (bridge, firewall table, the attachments of
// sandboxes that exist) and makes the directories. It does not need containerd to answer:
// while there is none, calls fail as unavailable, and Events says when it is back.
//
// The caller runs Run, and closes the Runtime when no call is under way any more.
func New(ctx context.Context, config Config) (*Runtime, error) {
	c := config.withDefaults()
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("containerd runtime: %w", err)
	}
	for _, dir := range []string{c.DataDir, c.RunDir, filepath.Join(c.DataDir, "tasks"), filepath.Join(c.RunDir, "exec"), filepath.Join(c.RunDir, "shm"), filepath.Join(c.DataDir, "trash")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(c.LogDir, "tasks"), 0o755); err != nil {
		return nil, err
	}
	tree, err := cgroup.Detect(c.CgroupParent)
	if err != nil {
		return nil, err
	}
	r := &Runtime{
		c: c, log: c.Logger, m: newMetrics(c.Registerer), cgroups: tree,
		platform: platforms.Only(platforms.DefaultSpec()),
		trash:    make(chan struct{}, 1),
	}
	if err := r.makeInitRoot(); err != nil {
		return nil, err
	}
	r.host = readHostFacts(tree)
	if r.ociPath, err = absBinary(c.RuntimeBinary); err != nil {
		return nil, err
	}
	r.network, err = network.Open(ctx, network.Config{
		Bridge: c.Bridge, CIDR: c.BridgeCIDR, RunDir: c.RunDir,
		DynamicPorts: c.DynamicPortRange, ReservedPorts: c.ReservedPorts, ReservedPortsUDP: c.ReservedPortsUDP,
		Log: c.Logger, Registerer: c.Registerer,
	}, r.attachments())
	if err != nil {
		return nil, fmt.Errorf("open the network: %w", err)
	}
	r.client, err = client.New(c.Address,
		client.WithDefaultNamespace(c.Namespace),
		client.WithDefaultPlatform(r.platform),
		client.WithExtraDialOpts(r.m.dialOptions()))
	if err != nil {
		return nil, fmt.Errorf("containerd client for %s: %w", c.Address, err)
	}
	return r, nil
}

// Run does what has to go on beside the calls: the network's proxies and repairs, the
// deletion of data of removed tasks, and the look whether containerd answers. At its start
// it sweeps up what crashes left behind. It returns
// when ctx has ended and all that it started has ended too.
func (r *Runtime) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { r.emptyTrash(ctx) })
	wg.Go(func() { r.watch(ctx) })
	wg.Go(func() {
		if !r.waitServing(ctx) {
			return
		}
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("cannot look for what crashes left behind", "error", err)
		}
	})
	err := r.network.Run(ctx)
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Close ends the connection to containerd. What runs goes on.
func (r *Runtime) Close() error {
	r.network.Close()
	return r.client.Close()
}

// watch keeps ecsd_runtime_up true to life.
func (r *Runtime) watch(ctx context.Context) {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		if _, err := r.Ping(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("containerd does not answer", "address", r.c.Address, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Ping asks containerd and the OCI runtime for their versions.
func (r *Runtime) Ping(ctx context.Context) (runtime.Versions, error) {
	v, err := r.client.Version(ctx)
	if err != nil {
		r.m.up.Set(0)
		return runtime.Versions{}, fmt.Errorf("containerd at %s does not answer (is it running?): %w", r.c.Address, err)
	}
	r.m.up.Set(1)
	return runtime.Versions{Containerd: "containerd " + v.Version, Runtime: r.runtimeVersion(ctx)}, nil
}

// SetServicePorts implements runtime.Balancer.
func (r *Runtime) SetServicePorts(ctx context.Context, service string, ports []runtime.ServicePort) error {
	return r.network.SetServicePorts(ctx, service, ports)
}

// HostPortsInUse lists the host ports that are published for tasks.
func (r *Runtime) HostPortsInUse() []spec.NetworkBinding { return r.network.HostPortsInUse() }

// CgroupMode tells how control groups are kept, for `ecsd doctor` and the log.
func (r *Runtime) CgroupMode() string { return r.cgroups.Mode().String() }

func (r *Runtime) taskDir(task string) string { return filepath.Join(r.c.DataDir, "tasks", task) }
func (r *Runtime) logDir(task string) string  { return filepath.Join(r.c.LogDir, "tasks", task) }

// LogFile is where a container's output is written.
func (r *Runtime) LogFile(task, name string) string {
	return filepath.Join(r.logDir(task), fileName(name)+".log")
}

// emptyTrash deletes what removed tasks left: volumes may be large, and deleting them must
// not hold up a call. It ends when ctx does; the rest is deleted after the next start.
func (r *Runtime) emptyTrash(ctx context.Context) {
	dir := filepath.Join(r.c.DataDir, "trash")
	for {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			r.log.Warn("cannot read the directory of deleted data", "dir", dir, "error", err)
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return
			}
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				r.log.Warn("cannot delete data of a removed task", "path", filepath.Join(dir, e.Name()), "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.trash:
		}
	}
}

// discard moves a directory where emptyTrash finds it. An absent one is nil.
func (r *Runtime) discard(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	to, err := os.MkdirTemp(filepath.Join(r.c.DataDir, "trash"), "")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(to, "data")); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	select {
	case r.trash <- struct{}{}:
	default:
	}
	return nil
}

// goarch is the architecture of this machine in Go's words, which are also OCI's.
const goarch = goruntime.GOARCH
