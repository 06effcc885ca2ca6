package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"ecsd/pkg/runtime"
	"ecsd/test/ociimage"
	"ecsd/test/testimage"
)

// testRegistry is a registry on loopback that can be made to misbehave.
type testRegistry struct {
	host     string
	requests atomic.Int64
	// interfere, when set, may answer a request itself and then returns true.
	interfere atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
}

func newRegistry(t *testing.T) *testRegistry {
	t.Helper()
	reg := &testRegistry{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reg.requests.Add(1)
		if f := reg.interfere.Load(); f != nil && (*f)(w, r) {
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	reg.host = strings.TrimPrefix(server.URL, "http://")
	return reg
}

// push puts an image into the registry and gives its reference.
func (reg *testRegistry) push(t *testing.T, image v1.Image, repository string) string {
	t.Helper()
	ref, err := name.ParseReference(reg.host+"/"+repository, name.Insecure)
	if err == nil {
		err = remote.Write(ref, image)
	}
	if err != nil {
		t.Fatalf("push: %v", err)
	}
	return ref.Name()
}

func (reg *testRegistry) misbehave(f func(w http.ResponseWriter, r *http.Request) bool) {
	if f == nil {
		reg.interfere.Store(nil)
		return
	}
	reg.interfere.Store(&f)
}

// small is an image of one small layer, different for each text.
func small(t *testing.T, text string) v1.Image {
	t.Helper()
	image, err := ociimage.Build([]ociimage.File{{Path: "/etc/passwd", Mode: 0o644, Data: []byte(text)}}, testimage.Config())
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestPullFromARegistry(t *testing.T) {
	m := newMachine(t)
	var mu sync.Mutex
	var told []string
	m.config.Progress = func(ref string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf("%s %v", ref, done <= total))
	}
	r, _ := m.agent()
	reg := newRegistry(t)
	image := small(t, "one")
	ref := reg.push(t, image, "team/app:v1")
	want, err := image.Digest()
	m.ok("digest", err)

	got, err := r.Pull(t.Context(), ref, runtime.Auth{})
	m.ok("pull", err)
	if got.Ref != ref || got.Digest != want.String() || got.Size == 0 {
		t.Errorf("pulled %+v, want %s", got, want)
	}
	if len(told) == 0 || !strings.HasSuffix(told[0], "true") {
		t.Errorf("progress was told %q", told)
	}
	// A moved tag is noticed, an unchanged one fetches nothing.
	before := reg.requests.Load()
	_, err = r.Pull(t.Context(), ref, runtime.Auth{})
	m.ok("pull again", err)
	if n := reg.requests.Load() - before; n > 2 {
		t.Errorf("pulling what is here took %d requests", n)
	}
	moved := small(t, "two")
	reg.push(t, moved, "team/app:v1")
	got, err = r.Pull(t.Context(), ref, runtime.Auth{})
	m.ok("pull the moved tag", err)
	if d, _ := moved.Digest(); got.Digest != d.String() {
		t.Errorf("moved tag gives %s, want %s", got.Digest, d)
	}
	// A digest that is here needs no registry.
	pinned := ref + "@" + got.Digest
	before = reg.requests.Load()
	got, err = r.Pull(t.Context(), pinned, runtime.Auth{})
	m.ok("pull by digest", err)
	if got.Ref != pinned || reg.requests.Load() != before {
		t.Errorf("pull by digest gave %+v with %d requests", got, reg.requests.Load()-before)
	}
	_, err = r.Pull(t.Context(), reg.host+"/team/app@"+want.String(), runtime.Auth{})
	m.ok("pull the first image by digest alone", err)

	list, err := r.ListImages(t.Context())
	m.ok("list images", err)
	if len(list) != 3 {
		t.Errorf("images: %+v, want the tag, the pinned tag and the digest", list)
	}
	for range 2 {
		m.ok("remove image", r.RemoveImage(t.Context(), ref))
	}
}

func TestPullFaults(t *testing.T) {
	m := newMachine(t, func(c *Config) { c.PullStallTimeout = 3 * time.Second })
	r, _ := m.agent()
	reg := newRegistry(t)
	image := small(t, "good")
	good := reg.push(t, image, "good:v1")
	manifest, err := image.Manifest()
	m.ok("manifest", err)
	sizes := map[string]int64{manifest.Config.Digest.String(): manifest.Config.Size}
	for _, l := range manifest.Layers {
		sizes[l.Digest.String()] = l.Size
	}
	blobs := func(r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet
	}
	status := func(code int) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(code)
			return true
		}
	}
	release := make(chan struct{})
	defer close(release)
	for what, c := range map[string]struct {
		ref   string
		fault func(w http.ResponseWriter, r *http.Request) bool
		final bool
		says  string
	}{
		"no such tag":        {ref: reg.host + "/good:none", final: true, says: "not found"},
		"no such repository": {ref: reg.host + "/none:v1", final: true, says: "not found"},
		"no such reference":  {ref: "UPPER CASE", final: true, says: "UPPER CASE"},
		"no such path":       {ref: "oci-archive:relative.tar", final: true, says: "absolute"},
		"denied":             {ref: good, fault: status(401), final: true, says: "denied"},
		"forbidden":          {ref: good, fault: status(403), final: true, says: "denied"},
		"registry down":      {ref: "127.0.0.1:1/good:v1", says: "refused"},
		"server error":       {ref: good, fault: status(502), says: "502"},
		"corrupt": {ref: good, final: true, says: "damaged", fault: func(w http.ResponseWriter, r *http.Request) bool {
			if !blobs(r) {
				return false
			}
			_, _ = w.Write(bytes.Repeat([]byte("x"), int(sizes[path.Base(r.URL.Path)])))
			return true
		}},
		"cut short": {ref: good, says: "short read", fault: func(w http.ResponseWriter, r *http.Request) bool {
			if !blobs(r) {
				return false
			}
			_, _ = w.Write([]byte("x"))
			return true
		}},
		"stalled": {ref: good, says: "no progress", fault: func(w http.ResponseWriter, r *http.Request) bool {
			if !blobs(r) {
				return false
			}
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return true
		}},
	} {
		t.Run(what, func(t *testing.T) {
			reg.misbehave(c.fault)
			defer reg.misbehave(nil)
			_, err := r.Pull(t.Context(), c.ref, runtime.Auth{})
			te, final := runtime.Final(err)
			if err == nil || final != c.final || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("pull gives %v (final: %v), want final: %v and a word of %q", err, final, c.final, c.says)
			}
			if final && te.Code != "CannotPullContainerError" {
				t.Errorf("code is %s", te.Code)
			}
		})
	}
	if _, err := r.Pull(t.Context(), good, runtime.Auth{}); err != nil {
		t.Errorf("pull once all is well: %v", err)
	}
}

func TestPullWithCredentials(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	reg := newRegistry(t)
	ref := reg.push(t, small(t, "secret"), "private:v1")
	reg.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		if user == "me" && password == "hunter2" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	for what, auth := range map[string]runtime.Auth{"none": {}, "wrong": {Username: "me", Password: "canary-wrong"}} {
		_, err := r.Pull(t.Context(), ref, auth)
		if _, final := runtime.Final(err); !final {
			t.Errorf("%s credentials give %v, want a final error", what, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	if _, err := r.Pull(t.Context(), ref, runtime.Auth{Username: "me", Password: "hunter2"}); err != nil {
		t.Errorf("right credentials: %v", err)
	}
}

// TestPullMirror: hosts.toml sends a registry's pulls elsewhere, without its credentials.
func TestPullMirror(t *testing.T) {
	m := newMachine(t)
	m.config.HostsDir = t.TempDir()
	mirror := newRegistry(t)
	mirror.push(t, small(t, "mirrored"), "team/app:v1")
	var leaked atomic.Bool
	mirror.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		return false
	})
	dir := filepath.Join(m.config.HostsDir, "registry.example")
	m.ok("mkdir", os.MkdirAll(dir, 0o755))
	m.ok("hosts.toml", os.WriteFile(filepath.Join(dir, "hosts.toml"),
		fmt.Appendf(nil, "[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+mirror.host), 0o644))
	r, _ := m.agent()
	if _, err := r.Pull(t.Context(), "registry.example/team/app:v1", runtime.Auth{Username: "me", Password: "hunter2"}); err != nil {
		t.Errorf("pull through a mirror: %v", err)
	}
	if leaked.Load() {
		t.Error("the mirror was given the registry's credentials")
	}
}

func TestPullBehavior(t *testing.T) {
	for behavior, want := range map[PullBehavior]struct {
		asks       bool // a registry that works is asked about what is here
		survives   bool // one that is down does no harm
		takesNewer bool
	}{
		PullDefault:      {asks: true, survives: true, takesNewer: true},
		PullAlways:       {asks: true, takesNewer: true},
		PullOnce:         {survives: true},
		PullPreferCached: {survives: true},
	} {
		t.Run(string(behavior), func(t *testing.T) {
			m := newMachine(t, func(c *Config) { c.PullBehavior = behavior })
			r, _ := m.agent()
			reg := newRegistry(t)
			ref := reg.push(t, small(t, "one"), "app:v1")
			first, err := r.Pull(t.Context(), ref, runtime.Auth{})
			m.ok("first pull", err)
			before := reg.requests.Load()
			_, err = r.Pull(t.Context(), ref, runtime.Auth{})
			m.ok("second pull", err)
			if asked := reg.requests.Load() > before; asked != want.asks {
				t.Errorf("registry was asked: %v, want %v", asked, want.asks)
			}
			reg.push(t, small(t, "two"), "app:v1")
			second, err := r.Pull(t.Context(), ref, runtime.Auth{})
			m.ok("pull of a moved tag", err)
			if newer := second.Digest != first.Digest; newer != want.takesNewer {
				t.Errorf("moved tag was taken: %v, want %v", newer, want.takesNewer)
			}
			reg.misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(http.StatusBadGateway)
				return true
			})
			if _, err = r.Pull(t.Context(), ref, runtime.Auth{}); (err == nil) != want.survives {
				t.Errorf("with the registry down: %v, want success: %v", err, want.survives)
			}
		})
	}
}

// TestPullArchives: what is in the file counts, and a changed file is noticed.
func TestPullArchives(t *testing.T) {
	m := newMachine(t)
	r, _ := m.agent()
	dir := t.TempDir()
	file := filepath.Join(dir, "image.tar")
	save := func(image v1.Image) {
		t.Helper()
		m.ok("save", ociimage.Save(image, file+".new", "any:name"))
		m.ok("rename", os.Rename(file+".new", file))
	}
	one, two := small(t, "one"), small(t, "two")
	save(one)
	first, err := r.Pull(t.Context(), "oci-archive:"+file, runtime.Auth{})
	m.ok("pull", err)
	if d, _ := one.Digest(); first.Digest != d.String() {
		t.Errorf("pulled %s, want %s", first.Digest, d)
	}
	again, err := r.Pull(t.Context(), "oci-archive:"+file, runtime.Auth{})
	m.ok("pull again", err)
	if again != first {
		t.Errorf("pulled %+v, then %+v", first, again)
	}
	_, err = r.Pull(t.Context(), "oci-archive:"+file+"@"+first.Digest, runtime.Auth{})
	m.ok("pull pinned", err)
	save(two)
	second, err := r.Pull(t.Context(), "oci-archive:"+file, runtime.Auth{})
	m.ok("pull the changed file", err)
	if second.Digest == first.Digest {
		t.Error("a changed file was not noticed")
	}
	_, err = r.Pull(t.Context(), "oci-archive:"+file+"@"+first.Digest, runtime.Auth{})
	m.ok("pull what was pinned before", err)
	_, err = r.Pull(t.Context(), "oci-archive:"+file+"@sha256:"+strings.Repeat("0", 64), runtime.Auth{})
	if _, final := runtime.Final(err); !final {
		t.Errorf("pinned to what it is not: %v, want a final error", err)
	}
	list, err := r.ListImages(t.Context())
	m.ok("list", err)
	for _, i := range list {
		if strings.Contains(i.Ref, "any:name") {
			t.Errorf("a name inside the archive became an image: %+v", list)
		}
	}

	bad := filepath.Join(dir, "bad.tar")
	m.ok("write", os.WriteFile(bad, []byte("not a tar at all"), 0o644))
	foreign, err := mutate.ConfigFile(one, &v1.ConfigFile{Architecture: "s390x", OS: "linux"})
	m.ok("foreign", err)
	m.ok("save", ociimage.Save(foreign, filepath.Join(dir, "foreign.tar"), "x:y"))
	for what, ref := range map[string]string{
		"rubbish":          bad,
		"a directory":      dir,
		"another platform": filepath.Join(dir, "foreign.tar"),
	} {
		_, err := r.Pull(t.Context(), "oci-archive:"+ref, runtime.Auth{})
		if te, final := runtime.Final(err); !final || te.Code != "CannotPullContainerError" {
			t.Errorf("%s: %v, want a final CannotPullContainerError", what, err)
		}
	}
}

// TestPullClasses: which failures are final.
func TestPullClasses(t *testing.T) {
	status := func(code int) error { return fmt.Errorf("x: %w", remoteerrors.ErrUnexpectedStatus{StatusCode: code}) }
	for _, c := range []struct {
		err  error
		want pullClass
	}{
		{status(401), pullDenied}, {status(403), pullDenied}, {status(404), pullNotFound}, {status(400), pullUnreadable},
		{status(408), pullRetry}, {status(416), pullRetry}, {status(429), pullRetry}, {status(500), pullRetry}, {status(503), pullRetry},
		{fmt.Errorf("x: %w", docker.ErrInvalidAuthorization), pullDenied},
		{fmt.Errorf("x: %w", errdefs.ErrNotFound), pullNotFound},
		{&wrongPlatformError{"linux/arm64"}, pullPlatform},
		{fmt.Errorf("no match for platform in manifest: %w", errdefs.ErrNotFound), pullPlatform},
		{errors.New("failed commit on ref: unexpected commit digest"), pullCorrupt},
		{errors.New("connection reset by peer"), pullRetry},
		{context.DeadlineExceeded, pullRetry},
		{&stalledError{time.Minute}, pullRetry},
		{&unreadableImageError{errors.New("x")}, pullUnreadable},
		{errors.New(`apply layer error for "": failed to extract layer sha256:1: link /a /b: no such file or directory: unknown`), pullUnreadable},
		{errors.New(`apply layer error for "": failed to extract layer sha256:1: archive/tar: invalid tar header: unknown`), pullUnreadable},
		{errors.New(`apply layer error for "": failed to extract layer sha256:1: invalid whiteout name: .wh...: invalid archive`), pullUnreadable},
		{errors.New(`apply layer error for "": failed to extract layer sha256:1: write /a: no space left on device: unknown`), pullRetry},
		{errors.New("open /var/lib/containerd/x: no such file or directory"), pullRetry},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("%v is of class %d, want %d", c.err, got, c.want)
		}
	}
}
