package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/nftables"
	"go.uber.org/goleak"
)

// snapshot is what is on the machine of this network, to compare.
func (w *world) snapshot(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	links := must(w.links.LinkList())(t)
	n := 0
	for _, l := range links {
		if w.isHostSide(l) {
			n++
		}
	}
	fmt.Fprintf(&b, "host sides: %d\n", n)
	pins, _ := os.ReadDir(w.layout.pins)
	fmt.Fprintf(&b, "pins: %v\n", pins)
	mounts := string(must(os.ReadFile("/proc/self/mounts"))(t))
	fmt.Fprintf(&b, "mounts: %d\n", strings.Count(mounts, w.layout.pins))
	nft := must(nftables.New())(t)
	for _, s := range must(nft.GetSets(&nftables.Table{Name: w.layout.table, Family: nftables.TableFamilyINet}))(t) {
		fmt.Fprintf(&b, "%s: %d elements\n", s.Name, len(must(nft.GetSetElements(s))(t)))
	}
	fds := must(os.ReadDir("/proc/self/fd"))(t)
	sockets := 0
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, "socket:") {
			sockets++
		}
	}
	fmt.Fprintf(&b, "sockets: %d, held ports: %v, addresses: %v\n", sockets, w.book.held, w.pool.used)
	return b.String()
}

// TestLeaks: 200 containers come and go, eight at a time; then everything is as before.
func TestLeaks(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	before := w.snapshot(t)
	var workers sync.WaitGroup
	ids := make(chan int)
	for range 8 {
		workers.Go(func() {
			for i := range ids {
				r := Request{ID: fmt.Sprintf("c%d", i), Ports: []PortRequest{{ContainerPort: 80}, {ContainerPort: 53, Protocol: "udp"}, {Range: "100-102"}}}
				a, err := w.Attach(ctx, r, nil)
				if err == nil {
					err = errors.Join(w.Check(ctx, a), w.Detach(ctx, a))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 200 {
		ids <- i
	}
	close(ids)
	workers.Wait()
	check(t, w.Repair(ctx))
	eventually(t, "all as before", func() bool { return w.snapshot(t) == before })
	check(t, w.table.verify())
}

// TestRunEnds: Run ends with its context, with all it began.
func TestRunEnds(t *testing.T) {
	w := newWorld(t)
	a := w.attach(t, "a", PortRequest{ContainerPort: 80, HostPort: 8080})
	serve(t, a.Namespace, "a", ":80")
	ignore := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	c := must(connect("", "tcp", "[::1]:8080"))(t)
	defer func() { _ = c.Close() }()
	must(greeting(c))(t)
	check(t, echoes(c))
	cancel()
	check(t, <-done)
	goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("ecsd/pkg/runtime/containerd/network.serve.func1.1.1"))
	if err := echoes(c); err == nil {
		t.Error("the proxy still copies")
	}
	// The kernel's part goes on.
	if got := try(w.outside, "tcp", "10.9.0.1:8080"); got != "a 10.9.0.2" {
		t.Error(got)
	}
}
