// Package ociimage builds small one-layer images from files on disk, as OCI archives
// that ecsd runs with an oci-archive: reference. Tests and the demo make their images
// with it, so that nothing has to come from a registry.
package ociimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is one file of an image. A Mode of a directory needs no Data.
type File struct {
	Path string // absolute, in the image
	Mode fs.FileMode
	Data []byte
	Link string // target, for a symbolic link
}

// Build makes an image of the files, with the configuration. Created is fixed, so that
// the same input has the same digest.
func Build(files []File, config v1.Config) (v1.Image, error) {
	content, err := layerTar(files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Created:      v1.Time{Time: time.Unix(0, 0).UTC()},
		RootFS:       v1.RootFS{Type: "layers"},
		Config:       config,
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(image, layer)
}

// Save writes image as an OCI archive (a tar of an OCI image layout) at file, by rename.
func Save(image v1.Image, file, ref string) error {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".oci-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "layout")
	index, err := layout.Write(root, empty.Index)
	if err != nil {
		return err
	}
	if err := index.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": ref})); err != nil {
		return err
	}
	archive := filepath.Join(dir, "archive.tar")
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(root)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(archive, file)
}

func layerTar(files []File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	seen := map[string]bool{"/": true, ".": true}
	var dirs func(dir string) error
	dirs = func(dir string) error {
		if seen[dir] {
			return nil
		}
		seen[dir] = true
		if err := dirs(path.Dir(dir)); err != nil {
			return err
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755})
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range files {
		if !path.IsAbs(f.Path) {
			return nil, fmt.Errorf("file %q: the path in the image must be absolute", f.Path)
		}
		if err := dirs(path.Dir(f.Path)); err != nil {
			return nil, err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Mode: tarMode(f.Mode), Size: int64(len(f.Data))}
		switch {
		case f.Mode.IsDir():
			seen[f.Path] = true
			h.Typeflag, h.Name, h.Size = tar.TypeDir, h.Name+"/", 0
		case f.Link != "":
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.Link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if h.Size > 0 {
			if _, err := w.Write(f.Data); err != nil {
				return nil, err
			}
		}
	}
	return buf.Bytes(), w.Close()
}

func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	if m&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	if m&fs.ModeSetuid != 0 {
		mode |= 0o4000
	}
	return mode
}
