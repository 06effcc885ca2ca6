package containerd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"ecsd/pkg/runtime"
)

// corruptTries is how often content whose digest is wrong is fetched again: once may be the
// network, more is the registry.
const corruptTries = 3

// silent is the logger of containerd's registry client: what it has to say is in its errors.
var silent = func() *log.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}()

// pullRegistry brings an image from its registry. local is what is here of that name
// already, or nil: when the registry has the same, nothing is fetched.
func (r *Runtime) pullRegistry(ctx context.Context, ref string, parsed imageRef, auth runtime.Auth, local *localImage) (info *imageInfo, err error) {
	began := time.Now()
	p := newPull(ref, r.c.PullStallTimeout, r.c.Progress)
	r.m.pullsInFlight.Inc()
	defer func() {
		r.m.pullsInFlight.Dec()
		registry := r.registryLabel(parsed.registry)
		r.m.pulls.WithLabelValues(registry, pullResult(err)).Inc()
		r.m.pullBytes.WithLabelValues(registry).Add(float64(p.bytes()))
		if err == nil {
			r.m.pullDurations.WithLabelValues(registry).Observe(time.Since(began).Seconds())
		}
	}()
	ctx, stop := p.watch(log.WithLogger(ctx, silent))
	defer stop()

	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: r.hosts(ctx, parsed, auth, p)})
	name, target, err := resolver.Resolve(ctx, parsed.name)
	if err != nil {
		return nil, p.cause(ctx, err)
	}
	if local != nil && local.digest == target.Digest.String() {
		return local.imageInfo, nil
	}
	err = r.leased(ctx, parsed, func(ctx context.Context) error {
		for try := 1; ; try++ {
			err := r.fetch(ctx, parsed, name, target, resolver, p)
			if err == nil {
				break
			}
			if !isUnusable(err) {
				return err
			}
			r.abort(ctx, p)
			if try == corruptTries {
				return err
			}
			r.log.Warn("content of an image is damaged, it is fetched again", "image", ref, "error", err)
		}
		info, err = r.imageInfo(ctx, target)
		return err
	})
	return info, p.cause(ctx, err)
}

// fetch brings what is missing of an image and unpacks it meanwhile.
func (r *Runtime) fetch(ctx context.Context, parsed imageRef, name string, target ocispec.Descriptor, resolver remotes.Resolver, p *pull) error {
	snapshotter, err := r.snapshotterName(ctx)
	if err != nil {
		return err
	}
	_, err = r.client.Pull(ctx, parsed.name,
		client.WithResolver(resolved{resolver, name, target}),
		client.WithPlatformMatcher(r.platform),
		client.WithPullSnapshotter(snapshotter),
		client.WithPullUnpack,
		client.WithImageHandlerWrapper(p.expect),
	)
	return err
}

// abort throws away what was begun of a pull's content, so that the next try does not go on
// from there.
func (r *Runtime) abort(ctx context.Context, p *pull) {
	store := r.client.ContentStore()
	begun, err := store.ListStatuses(ctx, "")
	if err != nil {
		r.log.Warn("cannot list unfinished content", "error", err)
		return
	}
	for _, s := range begun {
		// Their names end in the digest: "layer-sha256:…".
		_, digest, _ := strings.Cut(s.Ref, "-")
		if !p.wants(digest) {
			continue
		}
		if err := store.Abort(ctx, s.Ref); err != nil && !errdefs.IsNotFound(err) {
			r.log.Warn("cannot throw away damaged content", "ref", s.Ref, "error", err)
		}
	}
}

// resolved is a resolver that already knows the answer: what was resolved is what is
// fetched, even if the tag moves in between.
type resolved struct {
	remotes.Resolver
	name   string
	target ocispec.Descriptor
}

// Resolve gives what was resolved before.
func (r resolved) Resolve(context.Context, string) (string, ocispec.Descriptor, error) {
	return r.name, r.target, nil
}

// hosts are the hosts that serve a registry: its own and the mirrors of hosts.toml.
// Credentials go to the reference's own registry, and to no mirror of another name.
func (r *Runtime) hosts(ctx context.Context, parsed imageRef, auth runtime.Auth, p *pull) docker.RegistryHosts {
	options := config.HostOptions{
		HostDir: config.HostDirFromRoot(r.c.HostsDir),
		Credentials: func(host string) (string, string, error) {
			if !sameRegistry(host, parsed.registry) {
				return "", "", nil
			}
			if auth.IdentityToken != "" {
				return "", auth.IdentityToken, nil
			}
			return auth.Username, auth.Password, nil
		},
		UpdateClient: func(c *http.Client) error {
			c.Transport = p.transport(c.Transport)
			return nil
		},
	}
	return config.ConfigureHosts(ctx, options)
}

// sameRegistry reports whether a host is a registry's own.
func sameRegistry(host, registry string) bool {
	if registry == "docker.io" {
		return host == "registry-1.docker.io" || host == "docker.io" || host == "index.docker.io"
	}
	return host == registry
}

const maxRegistries = 20

// registryLabel bounds the values of the registry label.
func (r *Runtime) registryLabel(host string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.registries == nil {
		r.registries = map[string]bool{}
	}
	if !r.registries[host] {
		if len(r.registries) >= maxRegistries {
			return "other"
		}
		r.registries[host] = true
	}
	return host
}

// expect counts what a pull has to fetch in all: each blob as it becomes known, less those
// that are here already (containerd does not ask for them).
func (p *pull) expect(next images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := next.Handle(ctx, desc)
		if err == nil || errors.Is(err, images.ErrSkipDesc) || errdefs.IsAlreadyExists(err) {
			p.more(children)
		}
		return children, err
	})
}
