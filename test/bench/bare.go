package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/image-spec/identity"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// bare is a containerd client that does the least.
type bare struct {
	client *client.Client
	ns     string
	dir    string
	log    string // path of ecsd-log
	spec   *specs.Spec
	chain  string
	snap   string
	stamps string
}

// newBare takes the OCI spec of a container that ecsd runs, and makes it its own: another
// cgroup of the same depth, no etc files of a task, another stamp file for each run.
func newBare(ctx context.Context, address, ns, dir, logBinary, stamps, like string) (*bare, error) {
	c, err := client.New(address)
	if err != nil {
		return nil, err
	}
	ctx = namespaces.WithNamespace(ctx, ns)
	model, err := c.LoadContainer(ctx, like)
	if err != nil {
		return nil, fmt.Errorf("the container to copy: %w", err)
	}
	spec, err := model.Spec(ctx)
	if err != nil {
		return nil, err
	}
	info, err := model.Info(ctx)
	if err != nil {
		return nil, err
	}
	image, err := c.GetImage(ctx, info.Image)
	if err != nil {
		return nil, err
	}
	diffs, err := image.RootFS(ctx)
	if err != nil {
		return nil, err
	}
	delete(spec.Annotations, "io.containerd.runc.v2.group")
	spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool {
		return strings.HasPrefix(m.Destination, "/etc/")
	})
	return &bare{client: c, ns: ns, dir: dir, log: logBinary, spec: spec, chain: identity.ChainID(diffs).String(), snap: info.Snapshotter, stamps: stamps}, nil
}

func (b *bare) ctx(ctx context.Context) context.Context { return namespaces.WithNamespace(ctx, b.ns) }

// running is what start leaves to be cleared away.
type running struct {
	task      client.Task
	container client.Container
	lease     leases.Lease
	id        string
}

// start runs one container whose process stamps file.
func (b *bare) start(ctx context.Context, id, file string) (*running, error) {
	ctx = b.ctx(ctx)
	spec := *b.spec
	spec.Process = new(specs.Process)
	*spec.Process = *b.spec.Process
	spec.Process.Args = []string{"/testbox", "stamp", filepath.Join("/stamps", file)}
	spec.Linux = new(specs.Linux)
	*spec.Linux = *b.spec.Linux
	spec.Linux.CgroupsPath = "/bench-bare/" + id + "/c"
	lm := b.client.LeasesService()
	lease, err := lm.Create(ctx, leases.WithID(id), leases.WithExpiration(time.Hour))
	if err != nil {
		return nil, err
	}
	ctx = leases.WithLease(ctx, lease.ID)
	if _, err := b.client.SnapshotService(b.snap).Prepare(ctx, id, b.chain); err != nil {
		return nil, err
	}
	container, err := b.client.NewContainer(ctx, id,
		client.WithSnapshotter(b.snap), client.WithSnapshot(id),
		client.WithRuntime("io.containerd.runc.v2", &runcoptions.Options{BinaryName: "runc"}),
		func(_ context.Context, _ *client.Client, c *containers.Container) error {
			marshalled, err := typeurl.MarshalAny(&spec)
			c.Spec = marshalled
			return err
		})
	if err != nil {
		return nil, err
	}
	uri := url.URL{Scheme: "binary", Path: b.log, RawQuery: url.Values{"path": {filepath.Join(b.dir, id+".log")}}.Encode()}
	task, err := container.NewTask(ctx, cio.LogURI(&uri))
	if err != nil {
		return nil, err
	}
	if err := task.Start(ctx); err != nil {
		return nil, err
	}
	return &running{task, container, lease, id}, nil
}

func (b *bare) remove(ctx context.Context, r *running) error {
	ctx = b.ctx(ctx)
	if _, err := r.task.Delete(ctx, client.WithProcessKill); err != nil {
		return err
	}
	if err := r.container.Delete(ctx, client.WithSnapshotCleanup); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(b.dir, r.id+".log"))
	removeCgroup("/bench-bare/" + r.id)
	return b.client.LeasesService().Delete(ctx, r.lease)
}

// removeCgroup removes what runc leaves: the parent of a container's cgroup.
func removeCgroup(path string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, root := range append(roots, "/sys/fs/cgroup") {
		_ = os.Remove(filepath.Join(root, path, "c"))
		_ = os.Remove(filepath.Join(root, path))
	}
}
