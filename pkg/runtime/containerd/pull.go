package containerd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"ecsd/pkg/runtime"
)

// pullLeaseExpiry bounds how long what an interrupted pull has fetched is kept for the next
// try.
const pullLeaseExpiry = 24 * time.Hour

// Pull implements runtime.Runtime. What is here already is used as the pull behaviour says:
//
//	                here, complete               not here, or other than asked for
//	prefer-cached   taken                        pulled
//	once            taken                        pulled
//	default         taken if the registry has    pulled
//	                the same, or cannot be asked
//	always          taken if the registry has    pulled
//	                the same; else an error
//
// A reference with a digest cannot change: once it is here no registry is asked. Two pulls
// of one reference at a time share the work: the second finds what the first has brought.
func (r *Runtime) Pull(ctx context.Context, ref string, auth runtime.Auth) (runtime.Image, error) {
	parsed, err := parseRef(ref)
	if err != nil {
		return runtime.Image{}, invalidRef(err)
	}
	unlock, err := r.pulls.lock(ctx, parsed.name)
	if err != nil {
		return runtime.Image{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	defer unlock()
	if err := ctx.Err(); err != nil {
		return runtime.Image{}, fmt.Errorf("pull %s: %w", ref, err)
	}

	local, err := r.findLocal(ctx, parsed)
	if err != nil {
		return runtime.Image{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	if local != nil && r.takeLocal(parsed) {
		return image(ref, local.imageInfo), nil
	}
	var info *imageInfo
	if parsed.archive != "" {
		info, err = r.pullArchive(ctx, parsed, local)
	} else {
		info, err = r.pullRegistry(ctx, ref, parsed, auth, local)
	}
	if err == nil {
		return image(ref, info), nil
	}
	err = pullFault(ref, err)
	if local != nil && r.c.PullBehavior != PullAlways && ctx.Err() == nil {
		r.log.Warn("image could not be pulled, the one that is here is used", "image", ref, "digest", local.digest, "error", err)
		return image(ref, local.imageInfo), nil
	}
	return runtime.Image{}, err
}

func image(ref string, info *imageInfo) runtime.Image {
	return runtime.Image{Ref: ref, Digest: info.digest, Size: info.size}
}

// takeLocal reports whether an image that is here is taken without asking anybody. An
// archive is looked at anyway: that costs nothing.
func (r *Runtime) takeLocal(ref imageRef) bool {
	if ref.digest != "" {
		return true
	}
	return ref.archive == "" && (r.c.PullBehavior == PullOnce || r.c.PullBehavior == PullPreferCached)
}

// localImage is an image that is here, complete and unpacked.
type localImage struct {
	*imageInfo
	labels map[string]string // of containerd's record
}

// findLocal finds an image that is here; nil when it is not, or not complete.
func (r *Runtime) findLocal(ctx context.Context, ref imageRef) (*localImage, error) {
	store := r.client.ImageService()
	rec, err := store.Get(ctx, ref.name)
	if errdefs.IsNotFound(err) && ref.digest != "" && ref.untagged != "" {
		// Pinned to what its tag stands for here now: the same image under another name.
		if rec, err = store.Get(ctx, ref.untagged); err == nil {
			if rec.Target.Digest != ref.digest {
				return nil, nil
			}
			if err := r.saveImage(ctx, ref.name, rec.Target, rec.Labels); err != nil {
				return nil, err
			}
		}
	}
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info := r.images.get(rec.Target.Digest.String()); info != nil {
		return &localImage{info, rec.Labels}, nil
	}
	var info *imageInfo
	err = r.leased(ctx, ref, func(ctx context.Context) error {
		info, err = r.imageInfo(ctx, rec.Target)
		return err
	})
	if err != nil {
		if ctx.Err() != nil || errdefs.IsUnavailable(err) || errdefs.IsDeadlineExceeded(err) {
			return nil, err
		}
		// Incomplete, or damaged: as if it were not here.
		r.log.Info("image is here but cannot be used, it is pulled again", "image", ref.name, "reason", err)
		return nil, nil
	}
	return &localImage{info, rec.Labels}, nil
}

// leased runs f under a lease for an image. On success the lease goes, since the image's
// record holds everything by then. It goes on a failure, too, unless the next try would be
// glad of what has come from a registry so far: then it stays until it expires.
func (r *Runtime) leased(ctx context.Context, ref imageRef, f func(context.Context) error) error {
	id := "pull-" + digest.FromString(ref.name).Encoded()[:32]
	// Not cancelled with the pull: a lease that containerd has made while we turned away
	// would be nobody's.
	making, made := context.WithTimeout(context.WithoutCancel(ctx), defaultDeadline)
	_, err := r.client.LeasesService().Create(making, leases.WithID(id), leases.WithExpiration(pullLeaseExpiry))
	made()
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	failed := ctx.Err()
	if failed == nil {
		failed = f(leases.WithLease(ctx, id))
	}
	if failed != nil && ctx.Err() == nil && ref.archive == "" && classify(failed) == pullRetry {
		return failed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultDeadline) // nobody may want the image any more
	defer cancel()
	if err := r.dropLease(ctx, id); err != nil {
		r.log.Warn("cannot remove the lease of a pull; it expires by itself", "lease", id, "error", err)
	}
	return failed
}

// saveImage makes the name stand for an image.
func (r *Runtime) saveImage(ctx context.Context, name string, target ocispec.Descriptor, labels map[string]string) error {
	store := r.client.ImageService()
	rec := images.Image{Name: name, Target: target, Labels: labels}
	_, err := store.Create(ctx, rec)
	if errdefs.IsAlreadyExists(err) {
		_, err = store.Update(ctx, rec)
	}
	return err
}

// unpack puts an image's layers into the snapshotter.
func (r *Runtime) unpack(ctx context.Context, target ocispec.Descriptor, snapshotter string) error {
	return client.NewImageWithPlatform(r.client, images.Image{Target: target}, r.platform).Unpack(ctx, snapshotter)
}

// snapshotterName is the snapshotter that images are unpacked into: the configured one, or
// overlayfs where it works, or native.
func (r *Runtime) snapshotterName(ctx context.Context) (string, error) {
	if r.c.Snapshotter != "" {
		return r.c.Snapshotter, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.snapshotter != "" {
		return r.snapshotter, nil
	}
	response, err := r.client.IntrospectionService().Plugins(ctx, "type==io.containerd.snapshotter.v1")
	if err != nil {
		return "", err
	}
	usable := map[string]bool{}
	for _, p := range response.Plugins {
		usable[p.ID] = p.InitErr == nil
	}
	for _, name := range []string{"overlayfs", "native"} {
		if usable[name] {
			if name == "native" {
				r.log.Warn("containerd has no overlayfs here; images and containers are copied, which needs time and space")
			}
			r.snapshotter = name
			return name, nil
		}
	}
	return "", errors.New("containerd has neither the overlayfs nor the native snapshotter: see `ctr plugins ls`")
}
