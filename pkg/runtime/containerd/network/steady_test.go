package network

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ecsd/pkg/runtime"
)

// TestServiceRoll: backends are swapped again and again under load, and no request fails.
func TestServiceRoll(t *testing.T) {
	w := newWorld(t)
	w.run(t)
	ctx := t.Context()
	a, b := w.attach(t, "a"), w.attach(t, "b")
	serve(t, a.Namespace, "a", ":80")
	serve(t, b.Namespace, "b", ":80")
	set := func(backends ...netip.AddrPort) {
		check(t, w.SetServicePorts(ctx, "web", []runtime.ServicePort{{Port: 90, Protocol: "tcp", Backends: backends}}))
	}
	set(backend(a, 80))
	long := must(connect(w.outside, "tcp", "10.9.0.1:90"))(t)
	defer func() { _ = long.Close() }()
	if got := outcome(greeting(long)); got != "a 10.9.0.2" {
		t.Fatal(got)
	}

	var failed, served atomic.Int64
	var clients sync.WaitGroup
	loadCtx, stop := context.WithCancel(ctx)
	for _, from := range []struct{ ns, to string }{
		{w.outside, "10.9.0.1:90"}, {w.outside, "[fd09::1]:90"}, {"", "127.0.0.1:90"}, {"", "[::1]:90"}, {a.Namespace, "10.9.0.1:90"},
	} {
		clients.Go(func() {
			for loadCtx.Err() == nil {
				if got := try(from.ns, "tcp", from.to); !strings.HasPrefix(got, "a ") && !strings.HasPrefix(got, "b ") {
					failed.Add(1)
					t.Logf("%s: %s", from.to, got)
				}
				served.Add(1)
			}
		})
	}
	for i := range 100 {
		before := served.Load()
		switch i % 4 {
		case 0:
			set(backend(a, 80), backend(b, 80))
		case 1:
			set(backend(b, 80))
		case 2:
			set(backend(b, 80), backend(a, 80))
		case 3:
			set(backend(a, 80))
		}
		eventually(t, "some requests under each state", func() bool { return served.Load() > before+5 })
	}
	stop()
	clients.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), served.Load())
	}
	// a left, and came back; what was established to it all the while lives.
	set(backend(b, 80))
	if err := echoes(long); err != nil {
		t.Errorf("an established connection to a backend that left broke: %v", err)
	}
	for range 10 {
		if got := try(w.outside, "tcp", "10.9.0.1:90"); got != "b 10.9.0.2" {
			t.Fatalf("after a left: %s", got)
		}
	}
	set()
	for _, from := range []struct{ ns, to string }{{w.outside, "10.9.0.1:90"}, {w.outside, "[fd09::1]:90"}, {"", "127.0.0.1:90"}, {"", "[::1]:90"}, {a.Namespace, "10.9.0.1:90"}} {
		if got := try(from.ns, "tcp", from.to); got != "refused" {
			t.Errorf("without backends %s is %s", from.to, got)
		}
	}
	check(t, w.SetServicePorts(ctx, "web", nil))
	if got := w.HostPortsInUse(); len(got) != 0 {
		t.Errorf("after the service: %v", got)
	}
	check(t, w.table.verify())
}

// TestServiceSpread: every backend gets its share, also programs on the host's network.
func TestServiceSpread(t *testing.T) {
	w := newWorld(t)
	var to []netip.AddrPort
	for _, id := range []string{"a", "b", "c"} {
		x := w.attach(t, id)
		serve(t, x.Namespace, id, ":80")
		to = append(to, backend(x, 80))
	}
	serve(t, "", "host", ":7777")
	to = append(to, netip.MustParseAddrPort("127.0.0.1:7777"))
	check(t, w.SetServicePorts(t.Context(), "web", []runtime.ServicePort{{Port: 90, Backends: to}, {Port: 90, Protocol: "udp", Backends: to}}))
	for _, proto := range []string{"tcp", "udp"} {
		got := map[string]int{}
		for range 200 {
			name, _, _ := strings.Cut(try(w.outside, proto, "10.9.0.1:90"), " ")
			got[name]++
		}
		for _, name := range []string{"a", "b", "c", "host"} {
			if got[name] < 20 { // 50 expected; this low once in a million runs
				t.Errorf("%s: %v", proto, got)
			}
		}
		if len(got) != 4 {
			t.Errorf("%s: %v", proto, got)
		}
	}
	// The host's program on the steady port itself needs no help.
	check(t, w.SetServicePorts(t.Context(), "own", []runtime.ServicePort{{Port: 7777, Backends: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7777")}}}))
	if got := try(w.outside, "tcp", "10.9.0.1:7777"); got != "host 10.9.0.2" {
		t.Error(got)
	}
}

// TestDetachLeavesServices: a task that died is no backend any more, told or not.
func TestDetachLeavesServices(t *testing.T) {
	w := newWorld(t)
	a := must(w.Attach(t.Context(), Request{ID: "a"}, nil))(t)
	b := w.attach(t, "b")
	serve(t, b.Namespace, "b", ":80")
	check(t, w.SetServicePorts(t.Context(), "web", []runtime.ServicePort{{Port: 90, Backends: []netip.AddrPort{backend(a, 80), backend(b, 80)}}}))
	check(t, w.Detach(t.Context(), a))
	for range 10 {
		if got := try(w.outside, "tcp", "10.9.0.1:90"); got != "b 10.9.0.2" {
			t.Fatal(got)
		}
	}
}

func TestServicePortsRefused(t *testing.T) {
	for want, ports := range map[string][]runtime.ServicePort{
		"want tcp or udp":   {{Port: 1, Protocol: "http"}},
		"want 1 to 65535":   {{Port: 70000}},
		"given twice":       {{Port: 1}, {Port: 1, Protocol: "tcp"}},
		"want ADDRESS:PORT": {{Port: 1, Backends: []netip.AddrPort{{}}}},
	} {
		if got, err := servicePorts(ports); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, %v", ports, got, err)
		}
	}
}
