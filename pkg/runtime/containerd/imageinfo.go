package containerd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"ecsd/pkg/spec"
)

// imageInfo is what running an image needs to know of it. It follows from the digest of
// the image alone and never changes.
type imageInfo struct {
	digest string
	chain  string // key of the snapshot that holds the unpacked root filesystem
	size   int64
	config spec.ImageConfig // with passwd and group of the root filesystem
}

// imageCache keeps imageInfo by digest. It is bounded; what falls out is read again.
type imageCache struct {
	mu    sync.Mutex
	infos map[string]*imageInfo
}

const maxCachedImages = 256

func (c *imageCache) get(digest string) *imageInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.infos[digest]
}

func (c *imageCache) put(i *imageInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.infos == nil || len(c.infos) >= maxCachedImages {
		c.infos = map[string]*imageInfo{}
	}
	c.infos[i.digest] = i
}

func (c *imageCache) drop(digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.infos, digest)
}

// imageInfo reads what an image is, and makes sure that it is complete and unpacked: an
// ErrNotFound says that some of it is not here. It needs a lease in ctx, since it may
// unpack. The second call for a digest costs nothing.
func (r *Runtime) imageInfo(ctx context.Context, target ocispec.Descriptor) (*imageInfo, error) {
	if info := r.images.get(target.Digest.String()); info != nil {
		return info, nil
	}
	store := r.client.ContentStore()
	manifest, err := images.Manifest(ctx, store, target, r.platform)
	if err != nil {
		return nil, err
	}
	blob, err := content.ReadBlob(ctx, store, manifest.Config)
	if err != nil {
		return nil, err
	}
	var image ocispec.Image
	if err := json.Unmarshal(blob, &image); err != nil {
		return nil, fmt.Errorf("configuration %s of image %s: %w", manifest.Config.Digest, target.Digest, err)
	}
	if have := platformOf(image); !r.platform.Match(have) {
		return nil, &wrongPlatformError{have: have.OS + "/" + have.Architecture}
	}
	info := &imageInfo{
		digest: target.Digest.String(),
		chain:  identity.ChainID(image.RootFS.DiffIDs).String(),
		size:   target.Size + manifest.Config.Size,
		config: imageConfig(image),
	}
	for _, layer := range manifest.Layers {
		info.size += layer.Size
	}
	if err := r.ensureUnpacked(ctx, target, info.chain); err != nil {
		return nil, err
	}
	if len(image.RootFS.DiffIDs) > 0 {
		if err := r.readAccounts(ctx, info); err != nil {
			return nil, fmt.Errorf("read the accounts of image %s: %w", target.Digest, err)
		}
	}
	r.images.put(info)
	return info, nil
}

// platformOf is what an image says it was made for. What it does not say is taken to be as
// it is here.
func platformOf(image ocispec.Image) ocispec.Platform {
	return ocispec.Platform{
		OS: cmp.Or(image.OS, "linux"), Architecture: cmp.Or(image.Architecture, goarch), Variant: image.Variant,
	}
}

// wrongPlatformError says that an image was made for another kind of machine.
type wrongPlatformError struct{ have string }

func (e *wrongPlatformError) Error() string {
	return fmt.Sprintf("the image is for %s, this machine is linux/%s: build or pull it for this platform", e.have, goarch)
}

func imageConfig(image ocispec.Image) spec.ImageConfig {
	c := image.Config
	return spec.ImageConfig{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User,
		StopSignal: c.StopSignal, Labels: c.Labels, Volumes: slices.Sorted(maps.Keys(c.Volumes)),
	}
}

// ensureUnpacked unpacks an image's layers when the snapshotter does not have them.
func (r *Runtime) ensureUnpacked(ctx context.Context, target ocispec.Descriptor, chain string) error {
	snapshotter, err := r.snapshotterName(ctx)
	if err != nil {
		return err
	}
	if chain == "" { // an image without layers
		return nil
	}
	_, err = r.client.SnapshotService(snapshotter).Stat(ctx, chain)
	if !errdefs.IsNotFound(err) {
		return err
	}
	return r.unpack(ctx, target, snapshotter)
}

// readAccounts reads /etc/passwd and /etc/group of an image through a read-only mount of a
// view, which is gone again when it returns. Links are followed within the image only.
func (r *Runtime) readAccounts(ctx context.Context, info *imageInfo) error {
	name, err := r.snapshotterName(ctx)
	if err != nil {
		return err
	}
	snapshotter := r.client.SnapshotService(name)
	key := "accounts-" + digest.Digest(info.chain).Encoded()
	if _, ok := leases.FromContext(ctx); !ok {
		return errors.New("no lease") // a fault of this program
	}
	mounts, err := snapshotter.View(ctx, key, info.chain)
	if errdefs.IsAlreadyExists(err) { // left by a crash
		mounts, err = snapshotter.Mounts(ctx, key)
	}
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := snapshotter.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
			r.log.Warn("cannot remove a temporary view of an image", "snapshot", key, "error", err)
		}
	}()
	return mount.WithReadonlyTempMount(ctx, mounts, func(dir string) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		info.config.Passwd = readAccountFile(root, "etc/passwd")
		info.config.Group = readAccountFile(root, "etc/group")
		return nil
	})
}

// maxAccountFile bounds what is read of an image's passwd: it is somebody else's file.
const maxAccountFile = 4 << 20

// readAccountFile reads a regular file of an image; nil when there is none that can be read.
func readAccountFile(root *os.Root, name string) []byte {
	// O_NONBLOCK: an image may have a FIFO of that name.
	f, err := root.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxAccountFile))
	if err != nil {
		return nil
	}
	return data
}
