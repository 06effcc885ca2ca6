package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"ecsd/pkg/runtime"
)

// labelArchive is the state of the file that an archive's image was read from: while the
// file has not changed it is not read again.
const labelArchive = "ecsd/archive-state"

// pullArchive brings an image from a file: an OCI image layout as a tar file, or what
// `docker save` writes. local is what was read from it before, or nil: while the file has
// not changed, that is the answer.
func (r *Runtime) pullArchive(ctx context.Context, ref imageRef, local *localImage) (info *imageInfo, err error) {
	began := time.Now()
	defer func() {
		r.m.pulls.WithLabelValues("oci-archive", pullResult(err)).Inc()
		if err == nil {
			r.m.pullDurations.WithLabelValues("oci-archive").Observe(time.Since(began).Seconds())
		}
	}()
	f, state, err := openArchive(ref.archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if local != nil && local.labels[labelArchive] == state {
		return local.imageInfo, nil
	}
	err = r.leased(ctx, ref, func(ctx context.Context) error {
		target, err := r.importArchive(ctx, f)
		if err != nil {
			return err
		}
		if ref.digest != "" && target.Digest != ref.digest {
			return fmt.Errorf("%s now holds %s, and the image is pinned to %s: %w", ref.archive, target.Digest, ref.digest, errdefs.ErrNotFound)
		}
		if info, err = r.imageInfo(ctx, target); err != nil {
			return err
		}
		return r.saveImage(ctx, ref.name, target, map[string]string{labelArchive: state})
	})
	return info, err
}

// openArchive opens an image file and describes its state. Whatever is wrong with the file
// is an error of the definition: it names the file.
func openArchive(path string) (*os.File, string, error) {
	// O_NONBLOCK: a FIFO of that name must not hold up anything.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("%s: no such file: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, "", &unreadableImageError{err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = f.Close()
		return nil, "", &unreadableImageError{fmt.Errorf("%s is not a regular file", path)}
	}
	state := fmt.Sprintf("%d-%d-%d-%d.%09d-%d.%09d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
	return f, state, nil
}

// importArchive reads an archive into containerd's store and gives the image in it that is
// for this machine. It needs a lease in ctx.
func (r *Runtime) importArchive(ctx context.Context, f *os.File) (ocispec.Descriptor, error) {
	store := r.client.ContentStore()
	index, err := archive.ImportIndex(ctx, store, f)
	if err != nil {
		if errdefs.IsUnavailable(err) || errdefs.IsDeadlineExceeded(err) || ctx.Err() != nil {
			return ocispec.Descriptor{}, err
		}
		return ocispec.Descriptor{}, &unreadableImageError{fmt.Errorf("%s is not an image archive (OCI layout or docker save): %w", f.Name(), err)}
	}
	target, err := theImage(ctx, store, index)
	if err != nil {
		return target, &unreadableImageError{fmt.Errorf("%s: %w", f.Name(), err)}
	}
	// References from an image to its parts keep those from the collector.
	handler := images.SetChildrenLabels(store, images.FilterPlatforms(images.ChildrenHandler(store), r.platform))
	if err := images.WalkNotEmpty(ctx, handler, target); err != nil {
		if errdefs.IsNotFound(err) {
			return target, &unreadableImageError{fmt.Errorf("%s is not complete: %w", f.Name(), err)}
		}
		return target, err
	}
	return target, nil
}

// theImage is the image an archive holds: the only entry of its index, or, of one with
// several, the index itself, from which the platform's is chosen.
func theImage(ctx context.Context, store content.Provider, index ocispec.Descriptor) (ocispec.Descriptor, error) {
	blob, err := content.ReadBlob(ctx, store, index)
	if err != nil {
		return index, err
	}
	var list ocispec.Index
	if err := json.Unmarshal(blob, &list); err != nil {
		return index, err
	}
	switch len(list.Manifests) {
	case 0:
		return index, errors.New("the archive holds no image")
	case 1:
		one := list.Manifests[0]
		return ocispec.Descriptor{MediaType: one.MediaType, Digest: one.Digest, Size: one.Size, Platform: one.Platform}, nil
	}
	return index, nil
}

// ListImages implements runtime.Images.
func (r *Runtime) ListImages(ctx context.Context) ([]runtime.Image, error) {
	records, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, err
	}
	var all []runtime.Image
	for _, rec := range records {
		i := runtime.Image{Ref: rec.Name, Digest: rec.Target.Digest.String()}
		if info := r.images.get(i.Digest); info != nil {
			i.Size = info.size
		} else if size, err := rec.Size(ctx, r.client.ContentStore(), r.platform); err == nil {
			i.Size = size
		}
		all = append(all, i)
	}
	return all, nil
}

// RemoveImage implements runtime.Images. The image's content and unpacked layers go when
// nothing else refers to them. An unknown one is nil.
func (r *Runtime) RemoveImage(ctx context.Context, ref string) error {
	name := imageName(ref)
	store := r.client.ImageService()
	rec, err := store.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := store.Delete(ctx, name, images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	r.images.drop(rec.Target.Digest.String())
	return nil
}
