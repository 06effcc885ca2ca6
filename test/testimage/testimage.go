// Package testimage builds the image that ecsd's tests run: the static binary of
// test/testbox and the few files around it. It is built on the spot, once for each
// version of its source, and kept in the user's cache directory.
package testimage

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"ecsd/test/ociimage"
)

// prebuiltDir names a directory with testbox and testimage.tar, for machines without a Go
// toolchain: the guest of `make test-vm`.
const prebuiltDir = "ECSD_TEST_IMAGE_DIR"

// Scheme is what turns an archive's path into an image reference.
const Scheme = "oci-archive:"

// Ref is the image reference of Archive.
func Ref(tb testing.TB) string { return Scheme + Archive(tb) }

// Archive is the path of the test image as an OCI archive. The first call builds it,
// which takes some seconds when the cache is cold.
func Archive(tb testing.TB) string {
	tb.Helper()
	file, err := archive()
	if err != nil {
		tb.Fatalf("build the test image: %v", err)
	}
	return file
}

// Binary is the path of the static testbox binary on the host.
func Binary(tb testing.TB) string {
	tb.Helper()
	file, err := binary()
	if err != nil {
		tb.Fatalf("build testbox: %v", err)
	}
	return file
}

// Image builds the image; tests that serve it from a registry of their own take this.
func Image(tb testing.TB) v1.Image {
	tb.Helper()
	image, err := build()
	if err != nil {
		tb.Fatalf("build the test image: %v", err)
	}
	return image
}

// Files are the files of the image, for tests that build variants of it.
func Files(tb testing.TB) []ociimage.File {
	tb.Helper()
	files, err := imageFiles()
	if err != nil {
		tb.Fatalf("build testbox: %v", err)
	}
	return files
}

// Config is the configuration of the image.
func Config() v1.Config {
	return v1.Config{
		Entrypoint: []string{"/testbox"},
		Cmd:        []string{"pause"},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/", "FROM_IMAGE=yes"},
	}
}

const passwd = `root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/:/sbin/nologin
app:x:1000:1000:app:/home/app:/sbin/nologin
`

const group = `root:x:0:
audio:x:29:app
app:x:1000:
nogroup:x:65534:
`

func imageFiles() ([]ociimage.File, error) {
	box, err := binary()
	if err != nil {
		return nil, err
	}
	code, err := os.ReadFile(box)
	if err != nil {
		return nil, err
	}
	return []ociimage.File{
		{Path: "/testbox", Mode: 0o755, Data: code},
		{Path: "/etc/passwd", Mode: 0o644, Data: []byte(passwd)},
		{Path: "/etc/group", Mode: 0o644, Data: []byte(group)},
		{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "/home/app", Mode: fs.ModeDir | 0o755},
		{Path: "/etc/not-executable", Mode: 0o644, Data: []byte("plain text\n")},
	}, nil
}

func build() (v1.Image, error) {
	files, err := imageFiles()
	if err != nil {
		return nil, err
	}
	return ociimage.Build(files, Config())
}

var archive = sync.OnceValues(func() (string, error) {
	box, err := binary()
	if err != nil {
		return "", err
	}
	file := filepath.Join(filepath.Dir(box), "testimage.tar")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	image, err := build()
	if err != nil {
		return "", err
	}
	return file, ociimage.Save(image, file, "testimage:latest")
})

var binary = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(prebuiltDir); dir != "" {
		return filepath.Join(dir, "testbox"), nil
	}
	_, self, _, _ := runtime.Caller(0)
	here := filepath.Dir(self)
	hash := sha256.New()
	for _, source := range []string{"../testbox/main.go", "../testbox/misdeeds.go", "../ociimage/ociimage.go", "testimage.go"} {
		b, err := os.ReadFile(filepath.Join(here, source))
		if err != nil {
			return "", err
		}
		hash.Write(b)
	}
	hash.Write([]byte(runtime.Version()))
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "ecsd-test", hex.EncodeToString(hash.Sum(nil))[:16])
	file := filepath.Join(dir, "testbox")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(dir, "testbox-*")
	if err != nil {
		return "", err
	}
	_ = tmp.Close()
	defer os.Remove(tmp.Name())
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", tmp.Name(), "../testbox")
	build.Dir = here
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", err
	}
	if err := os.Chmod(tmp.Name(), 0o755); err != nil {
		return "", err
	}
	return file, os.Rename(tmp.Name(), file)
})
