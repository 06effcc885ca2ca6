package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pull is one pull under way: how far it is, and whether it still moves.
type pull struct {
	ref      string
	stall    time.Duration
	progress func(ref string, done, total int64)

	done      atomic.Int64 // bytes that have come
	total     atomic.Int64 // bytes known to be needed
	unpacking atomic.Int64 // layers being unpacked now

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	told  time.Time
	parts map[string]bool // digests of what it consists of
}

// progressInterval is the least time between two calls of the progress hook.
const progressInterval = 100 * time.Millisecond

func newPull(ref string, stall time.Duration, progress func(string, int64, int64)) *pull {
	return &pull{ref: ref, stall: stall, progress: progress, parts: map[string]bool{}}
}

// stalledError says that nothing came for too long.
type stalledError struct{ after time.Duration }

func (e *stalledError) Error() string {
	return fmt.Sprintf("no progress for %s: is the registry or the network slow?", e.after)
}

type pullKey struct{}

// watch cancels the context, with a stalledError as its cause, when the pull does not move
// for the stall timeout. Bytes that come are movement, and so is a layer being unpacked.
func (p *pull) watch(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, pullKey{}, p))
	p.mu.Lock()
	p.timer = time.AfterFunc(p.stall, func() {
		if p.unpacking.Load() > 0 {
			p.moved()
			return
		}
		cancel(&stalledError{p.stall})
	})
	p.mu.Unlock()
	return ctx, func() {
		p.mu.Lock()
		p.timer.Stop()
		p.mu.Unlock()
		cancel(nil)
	}
}

// cause is the stall, if that is why err came about.
func (p *pull) cause(ctx context.Context, err error) error {
	var stalled *stalledError
	if err != nil && errors.As(context.Cause(ctx), &stalled) {
		return stalled
	}
	return err
}

// moved puts the stall off, and tells the hook now and then.
func (p *pull) moved() {
	p.mu.Lock()
	p.timer.Reset(p.stall)
	now := time.Now()
	tell := p.progress != nil && now.Sub(p.told) >= progressInterval
	if tell {
		p.told = now
	}
	p.mu.Unlock()
	if tell {
		p.progress(p.ref, p.done.Load(), max(p.total.Load(), p.done.Load()))
	}
}

// more notes parts of the image that have become known.
func (p *pull) more(parts []ocispec.Descriptor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range parts {
		if key := d.Digest.String(); !p.parts[key] {
			p.parts[key] = true
			p.total.Add(d.Size)
		}
	}
}

// wants reports whether something is a part of the image.
func (p *pull) wants(digest string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.parts[digest]
}

func (p *pull) bytes() int64 { return p.done.Load() }

// unpacking marks, in the pull of this context, a layer that is being unpacked until the
// returned function is called.
func unpacking(ctx context.Context) (done func()) {
	p, ok := ctx.Value(pullKey{}).(*pull)
	if !ok {
		return func() {}
	}
	p.unpacking.Add(1)
	return func() {
		p.unpacking.Add(-1)
		p.moved()
	}
}

// transport counts what comes from the registry.
func (p *pull) transport(next http.RoundTripper) http.RoundTripper {
	if next == nil {
		next = http.DefaultTransport
	}
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err == nil && resp.Body != nil {
			resp.Body = &countedBody{resp.Body, p}
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// countedBody is the body of an answer whose bytes count.
type countedBody struct {
	io.ReadCloser
	p *pull
}

// Read implements io.Reader.
func (b *countedBody) Read(data []byte) (int, error) {
	n, err := b.ReadCloser.Read(data)
	if n > 0 {
		b.p.done.Add(int64(n))
		b.p.moved()
	}
	return n, err
}
