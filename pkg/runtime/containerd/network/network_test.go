package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"ecsd/pkg/runtime"
)

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("never came true: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func backend(a Attachment, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.IPv4, port) }

// TestRestart: a new agent on the same machine replaces the table, and neither
// connections nor steady ports notice.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	a := w.attach(t, "a", PortRequest{ContainerPort: 80, HostPort: 8080}, PortRequest{ContainerPort: 80})
	b := w.attach(t, "b", PortRequest{ContainerPort: 80, HostPort: 8081})
	serve(t, a.Namespace, "a", ":80")
	check(t, w.SetServicePorts(t.Context(), "web", []runtime.ServicePort{{Port: 90, Protocol: "tcp", Backends: []netip.AddrPort{backend(a, 80), netip.MustParseAddrPort("10.79.0.99:80")}}}))
	check(t, w.SetServicePorts(t.Context(), "old", []runtime.ServicePort{{Port: 91, Protocol: "tcp", Backends: []netip.AddrPort{netip.MustParseAddrPort("10.79.0.99:80")}}}))
	var open []net.Conn
	for _, to := range []string{"10.9.0.1:8080", "[fd09::1]:8080"} {
		c := must(connect(w.outside, "tcp", to))(t)
		defer func() { _ = c.Close() }()
		must(greeting(c))(t)
		open = append(open, c)
	}

	w.open(t, a, b)

	for _, c := range open {
		if err := echoes(c); err != nil {
			t.Errorf("a connection by %s broke: %v", c.RemoteAddr(), err)
		}
	}
	for _, x := range []Attachment{a, b} {
		if err := w.Check(t.Context(), x); err != nil {
			t.Error(err)
		}
	}
	// The steady port is as before, but for the backend that is gone; a service that has
	// none left is forgotten.
	for range 8 {
		if got := try(w.outside, "tcp", "10.9.0.1:90"); got != "a 10.9.0.2" {
			t.Fatalf("steady port after the restart: %s", got)
		}
	}
	if _, is := w.services["old"]; is {
		t.Error("a service without any backend left was kept")
	}
	// Its address and ports are not given to another.
	c := w.attach(t, "c", PortRequest{ContainerPort: 80})
	if c.IPv4 == a.IPv4 || c.IPv4 == b.IPv4 || c.Ports[0].HostPort == a.Ports[1].HostPort {
		t.Errorf("%+v has something of %+v or %+v", c, a, b)
	}
	_, err := w.Attach(t.Context(), Request{ID: "d", Ports: []PortRequest{{ContainerPort: 1, HostPort: 8080}}}, nil)
	wantInUse(t, err, 8080, "container a")
	_, err = w.Attach(t.Context(), Request{ID: "d", Ports: []PortRequest{{ContainerPort: 1, HostPort: 90}}}, nil)
	wantInUse(t, err, 90, "service web")
}

func wantInUse(t *testing.T, err error, port uint16, holder string) {
	t.Helper()
	var used *PortInUseError
	if !errors.As(err, &used) || used.Port != port || !strings.Contains(used.Holder, holder) {
		t.Errorf("got %v, want a *PortInUseError for port %d that names %q", err, port, holder)
	}
}

// TestRestartAfterReboot: attachments whose namespace is gone keep what they had, and get
// it back when attached again.
func TestRestartAfterReboot(t *testing.T) {
	w := newWorld(t)
	a := w.attach(t, "a", PortRequest{ContainerPort: 80})
	check(t, Remove(t.Context(), w.config))
	w.open(t, a)
	if err := w.Check(t.Context(), a); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("check of what is gone: %v", err)
	}
	if b := w.attach(t, "b", PortRequest{ContainerPort: 80}); b.IPv4 == a.IPv4 || b.Ports[0].HostPort == a.Ports[0].HostPort {
		t.Errorf("what is booked for %+v was given to %+v", a, b)
	}
	again := must(w.Attach(t.Context(), Request{ID: "a", Ports: []PortRequest{{ContainerPort: 80}}}, &a))(t)
	if again.IPv4 != a.IPv4 || !slices.Equal(again.Ports, a.Ports) {
		t.Errorf("attached again as %+v, was %+v", again, a)
	}
	serve(t, again.Namespace, "a", ":80")
	if got := try(w.outside, "tcp", fmt.Sprintf("10.9.0.1:%d", a.Ports[0].HostPort)); got != "a 10.9.0.2" {
		t.Error(got)
	}
}

func TestIdempotence(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	r := Request{ID: "a", Ports: []PortRequest{{ContainerPort: 80, HostPort: 8080}, {Range: "100-102"}, {ContainerPort: 53, Protocol: "udp"}}}
	a := must(w.Attach(ctx, r, nil))(t)
	before := w.snapshot(t)
	for _, previous := range []*Attachment{nil, &a} {
		again := must(w.Attach(ctx, r, previous))(t)
		if again.IPv4 != a.IPv4 || again.HostInterface != a.HostInterface || !slices.Equal(again.Ports, a.Ports) {
			t.Errorf("again with %v: %+v, want %+v", previous, again, a)
		}
		check(t, w.Repair(ctx))
		check(t, w.Check(ctx, a))
	}
	if got := w.snapshot(t); got != before {
		t.Errorf("repeated calls changed the machine from\n%s\nto\n%s", before, got)
	}
	for range 2 {
		check(t, w.Detach(ctx, a))
	}
	check(t, w.Detach(ctx, Attachment{ID: "never"}))
	if err := w.Check(ctx, a); err == nil {
		t.Error("check of what was detached says nothing")
	}
	// What is detached a second time must not take what is another's by now.
	b := w.attach(t, "b", PortRequest{ContainerPort: 80, HostPort: 8080})
	check(t, w.Detach(ctx, a))
	check(t, w.Check(ctx, b))

	for range 2 {
		check(t, Remove(ctx, w.config))
	}
}

// TestAttachChangesPorts: asked for other ports, an attachment keeps its namespace and
// address.
func TestAttachChangesPorts(t *testing.T) {
	w := newWorld(t)
	a := w.attach(t, "a", PortRequest{ContainerPort: 80, HostPort: 8080})
	serve(t, a.Namespace, "a", ":80")
	b := must(w.Attach(t.Context(), Request{ID: "a", Ports: []PortRequest{{ContainerPort: 80, HostPort: 8081}}}, &a))(t)
	if b.IPv4 != a.IPv4 || b.HostInterface != a.HostInterface {
		t.Errorf("moved from %+v to %+v", a, b)
	}
	for port, want := range map[string]string{"8080": "refused", "8081": "a 10.9.0.2"} {
		if got := try(w.outside, "tcp", "10.9.0.1:"+port); got != want {
			t.Errorf("port %s: got %s, want %s", port, got, want)
		}
	}
}

func TestLoopbackOnly(t *testing.T) {
	w := newWorld(t)
	a := must(w.Attach(t.Context(), Request{ID: "a", Loopback: true, Ports: []PortRequest{{ContainerPort: 80}}}, nil))(t)
	if a.IPv4.IsValid() || a.HostInterface != "" || a.Ports != nil {
		t.Errorf("got %+v", a)
	}
	check(t, w.Check(t.Context(), a))
	serve(t, a.Namespace, "a", "127.0.0.1:80")
	if got := try(a.Namespace, "tcp", "127.0.0.1:80"); got != "a 127.0.0.1" {
		t.Errorf("within: %s", got)
	}
	check(t, in(a.Namespace, func() error {
		links, err := net.Interfaces()
		if len(links) != 1 {
			t.Errorf("interfaces: %v", links)
		}
		return err
	}))
	check(t, w.Detach(t.Context(), a))
}

func TestPortConflicts(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.config.ReservedPorts, w.config.ReservedPortsUDP = []uint16{2222}, []uint16{2223}
	w.open(t)
	a := w.attach(t, "a", PortRequest{ContainerPort: 80, HostPort: 8080})
	serve(t, "", "host", "127.0.0.1:7000")
	serve(t, "", "host", "[::1]:7001")
	check(t, w.SetServicePorts(ctx, "web", []runtime.ServicePort{{Port: 90, Protocol: "tcp"}}))
	before := w.snapshot(t)

	for _, c := range []struct {
		holder string
		port   PortRequest
	}{
		{"container a", PortRequest{ContainerPort: 1, HostPort: 8080}},
		{"service web", PortRequest{ContainerPort: 1, HostPort: 90}},
		{"ECS_RESERVED_PORTS", PortRequest{ContainerPort: 1, HostPort: 2222}},
		{"ECS_RESERVED_PORTS_UDP", PortRequest{ContainerPort: 1, HostPort: 2223, Protocol: "udp"}},
		{"ecsd itself", PortRequest{ContainerPort: 1, HostPort: 7000}},
		{"ecsd itself", PortRequest{ContainerPort: 1, HostPort: 7000, Protocol: "udp"}},
		{"ecsd itself", PortRequest{ContainerPort: 1, HostPort: 7001}},
	} {
		_, err := w.Attach(ctx, Request{ID: "b", Ports: []PortRequest{{ContainerPort: 2, HostPort: 8082}, c.port}}, nil)
		wantInUse(t, err, c.port.HostPort, c.holder)
	}
	_, err := w.Attach(ctx, Request{ID: "b", Ports: []PortRequest{{ContainerPort: 2, HostPort: 8082}, {ContainerPort: 3, HostPort: 8082}}}, nil)
	wantInUse(t, err, 8082, "container b")
	err = w.SetServicePorts(ctx, "other", []runtime.ServicePort{{Port: 92, Protocol: "tcp"}, {Port: 90, Protocol: "tcp"}})
	wantInUse(t, err, 90, "service web")
	err = w.SetServicePorts(ctx, "other", []runtime.ServicePort{{Port: 92, Protocol: "tcp"}, {Port: 7000, Protocol: "tcp"}})
	wantInUse(t, err, 7000, "ecsd itself")

	if got := w.snapshot(t); got != before {
		t.Errorf("refused calls left something behind:\n%s\nbefore:\n%s", got, before)
	}
	// The same number for the other protocol is another port.
	w.attach(t, "c", PortRequest{ContainerPort: 1, HostPort: 8080, Protocol: "udp"})
	check(t, w.Detach(ctx, a))
	w.attach(t, "d", PortRequest{ContainerPort: 1, HostPort: 8080})
}

// TestReservation: a program on the host cannot take what is published, on any address;
// and a dynamic port is not one that a program has.
func TestReservation(t *testing.T) {
	w := newWorld(t)
	w.config.DynamicPorts = [2]uint16{40000, 40003}
	w.open(t)
	serve(t, "", "host", "127.0.0.1:40000")
	serve(t, "", "host", "[::1]:40001")
	a := w.attach(t, "a", PortRequest{ContainerPort: 80}, PortRequest{ContainerPort: 80, HostPort: 8080, Protocol: "udp"})
	if got := a.Ports[0].HostPort; got != 40002 {
		t.Errorf("dynamic port %d, want the first that is free", got)
	}
	for _, addr := range []string{"0.0.0.0:40002", "127.0.0.1:40002", "10.9.0.1:40002", "[::]:40002", "[::1]:40002"} {
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			t.Errorf("%s could be taken", addr)
		}
	}
	for _, addr := range []string{"0.0.0.0:8080", "127.0.0.1:8080", "[::]:8080"} {
		if l, err := net.ListenPacket("udp", addr); err == nil {
			_ = l.Close()
			t.Errorf("UDP %s could be taken", addr)
		}
	}
	check(t, w.Detach(t.Context(), a))
	l := must(net.Listen("tcp", ":40002"))(t)
	_ = l.Close()
}

// TestUnpublish: what is established goes on, what is new is refused.
func TestUnpublish(t *testing.T) {
	w := newWorld(t)
	a := w.attach(t, "a", PortRequest{ContainerPort: 80, HostPort: 8080})
	serve(t, a.Namespace, "a", ":80")
	c := must(connect(w.outside, "tcp", "10.9.0.1:8080"))(t)
	defer func() { _ = c.Close() }()
	must(greeting(c))(t)
	check(t, w.withdraw(a))
	if err := echoes(c); err != nil {
		t.Errorf("the established connection broke: %v", err)
	}
	if got := try(w.outside, "tcp", "10.9.0.1:8080"); got != "refused" {
		t.Errorf("a new one was %s", got)
	}
}

// TestUDPMoves: a client that goes on from one port follows the port to another container.
func TestUDPMoves(t *testing.T) {
	w := newWorld(t)
	p := PortRequest{ContainerPort: 53, HostPort: 5353, Protocol: "udp"}
	a := must(w.Attach(t.Context(), Request{ID: "a", Ports: []PortRequest{p}}, nil))(t)
	serve(t, a.Namespace, "a", ":53")
	for _, to := range []string{"10.9.0.1:5353", "[fd09::1]:5353"} {
		c := must(connect(w.outside, "udp", to))(t)
		defer func() { _ = c.Close() }()
		if got := outcome(greeting(c)); !strings.HasPrefix(got, "a ") {
			t.Fatal(got)
		}
		defer func() {
			if got := outcome(greeting(c)); !strings.HasPrefix(got, "b ") {
				t.Errorf("the client of %s was answered: %s", to, got)
			}
		}()
	}
	check(t, w.Detach(t.Context(), a))
	b := w.attach(t, "b", p)
	serve(t, b.Namespace, "b", ":53")
	w.forgetUDP() // as Run does
}

// TestOrphans: what an agent left that nobody knows of is removed at the next start.
func TestOrphans(t *testing.T) {
	w := newWorld(t)
	kept := w.attach(t, "kept", PortRequest{ContainerPort: 80, HostPort: 8080})
	lost := must(w.Attach(t.Context(), Request{ID: "lost", Ports: []PortRequest{{ContainerPort: 80, HostPort: 8081}}}, nil))(t)
	// A file without a namespace, as a crash in between leaves it.
	check(t, os.WriteFile(w.layout.pin("half"), nil, 0o444))
	// A host side whose namespace somebody still holds.
	stuck := must(os.Open(lost.Namespace))(t)
	defer func() { _ = stuck.Close() }()

	w.open(t, kept)

	if got := must(os.ReadDir(w.layout.pins))(t); len(got) != 1 || got[0].Name() != "kept" {
		t.Errorf("pins: %v", got)
	}
	if _, err := w.links.LinkByName(lost.HostInterface); err == nil {
		t.Error("the interface of an orphan is still there")
	}
	check(t, w.Check(t.Context(), kept))
	w.attach(t, "new", PortRequest{ContainerPort: 80, HostPort: 8081})
}

// TestRepair breaks things as other programs and people do.
func TestRepair(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	a := w.attach(t, "a", PortRequest{ContainerPort: 80, HostPort: 8080})
	serve(t, a.Namespace, "a", ":80")
	check(t, w.SetServicePorts(ctx, "web", []runtime.ServicePort{{Port: 90, Protocol: "tcp", Backends: []netip.AddrPort{backend(a, 80)}}}))
	nft := must(nftables.New())(t)
	table := &nftables.Table{Name: w.layout.table, Family: nftables.TableFamilyINet}
	bridge := func() netlink.Link { return must(w.links.LinkByName(w.layout.bridge))(t) }
	veth := func() netlink.Link { return must(w.links.LinkByName(a.HostInterface))(t) }

	for _, c := range []struct {
		name  string
		harm  func()
		heals bool // connections survive it
	}{
		{"flush ruleset", func() { nft.FlushRuleset(); check(t, nft.Flush()) }, true},
		{"delete table", func() { nft.DelTable(table); check(t, nft.Flush()) }, true},
		{"flush chain", func() { nft.FlushChain(&nftables.Chain{Table: table, Name: chainPub}); check(t, nft.Flush()) }, true},
		{"flush chain of a service", func() {
			nft.FlushChain(&nftables.Chain{Table: table, Name: serviceChain(hostPort{"tcp", 90})})
			check(t, nft.Flush())
		}, true},
		{"delete elements", func() { nft.FlushSet(ipv4.pubMap(table, mapPub4)); check(t, nft.Flush()) }, true},
		{"delete bridge", func() { check(t, w.links.LinkDel(bridge())) }, true},
		{"bridge down", func() { check(t, w.links.LinkSetDown(bridge())) }, true},
		{"bridge's addresses gone", func() {
			for _, a := range must(w.links.AddrList(bridge(), netlink.FAMILY_ALL))(t) {
				check(t, w.links.AddrDel(bridge(), &a))
			}
		}, true},
		{"interface out of the bridge", func() { check(t, w.links.LinkSetNoMaster(veth())) }, true},
		{"interface down", func() { check(t, w.links.LinkSetDown(veth())) }, true},
		{"interface deleted", func() { check(t, w.links.LinkDel(veth())) }, false},
		{"sysctls", func() {
			check(t, setSysctl("ipv4/conf/"+w.layout.bridge+"/route_localnet", "0"))
			check(t, setSysctl("ipv4/conf/up0/forwarding", "0"))
			check(t, setSysctl("ipv4/conf/"+w.layout.bridge+"/forwarding", "0"))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := must(connect(w.outside, "tcp", "10.9.0.1:8080"))(t)
			defer func() { _ = conn.Close() }()
			must(greeting(conn))(t)
			c.harm()
			check(t, w.Repair(ctx))
			check(t, w.Check(ctx, a))
			for _, to := range []string{"10.9.0.1:8080", "[fd09::1]:8080", "10.9.0.1:90", "[fd09::1]:90"} {
				// A link that was down makes IPv6 take a second or two.
				eventually(t, "an answer by "+to, func() bool { return strings.HasPrefix(try(w.outside, "tcp", to), "a ") })
			}
			if got := try("", "tcp", "127.0.0.1:8080"); !strings.HasPrefix(got, "a ") {
				t.Errorf("127.0.0.1: %s", got)
			}
			if err := echoes(conn); err != nil && c.heals {
				t.Errorf("an established connection broke: %v", err)
			}
		})
	}
}

// TestAttachHeals: an attach finds the machine broken and mends it on its way.
func TestAttachHeals(t *testing.T) {
	w := newWorld(t)
	a := w.attach(t, "a", PortRequest{ContainerPort: 80, HostPort: 8080})
	check(t, w.links.LinkDel(must(w.links.LinkByName(w.layout.bridge))(t)))
	check(t, w.table.remove())
	b := w.attach(t, "b", PortRequest{ContainerPort: 80, HostPort: 8081})
	serve(t, b.Namespace, "b", ":80")
	if got := try(w.outside, "tcp", "10.9.0.1:8081"); got != "b 10.9.0.2" {
		t.Error(got)
	}
	// And a second attach of the first mends the rest of it.
	a = must(w.Attach(t.Context(), Request{ID: "a", Ports: []PortRequest{{ContainerPort: 80, HostPort: 8080}}}, &a))(t)
	serve(t, a.Namespace, "a", ":80")
	if got := try(w.outside, "tcp", "10.9.0.1:8080"); got != "a 10.9.0.2" {
		t.Error(got)
	}
	check(t, w.Check(t.Context(), a))
}

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

// foreignTable makes a forward chain as another firewall would.
func foreignTable(t *testing.T, family nftables.TableFamily, policy nftables.ChainPolicy, docker bool, rules ...[]expr.Any) {
	t.Helper()
	c := must(nftables.New())(t)
	table := c.AddTable(&nftables.Table{Name: "filter", Family: family})
	t.Cleanup(func() { c.DelTable(table); check(t, c.Flush()) })
	forward := c.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy})
	if docker {
		user := c.AddChain(&nftables.Chain{Name: "DOCKER-USER", Table: table})
		c.AddRule(&nftables.Rule{Table: table, Chain: user, Exprs: verdict(expr.VerdictReturn, "")})
		c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: verdict(expr.VerdictJump, "DOCKER-USER")})
	}
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: r})
	}
	check(t, c.Flush())
}

// TestForeignFirewalls: with Docker's, ufw's or firewalld's rules beside ours, everything
// works that should, and what was not published is still not reached.
func TestForeignFirewalls(t *testing.T) {
	established := join(dnatted(false), ct(expr.CtKeySTATE, expr.CtStateBitESTABLISHED, true), accept())
	dnat := join(dnatted(true), accept())
	reject := exprs{&expr.Reject{Type: 2, Code: 3}}
	for _, c := range []struct {
		name string
		make func(*testing.T)
	}{
		{"docker", func(t *testing.T) {
			foreignTable(t, nftables.TableFamilyIPv4, nftables.ChainPolicyDrop, true)
			foreignTable(t, nftables.TableFamilyIPv6, nftables.ChainPolicyDrop, true)
		}},
		{"ufw", func(t *testing.T) {
			foreignTable(t, nftables.TableFamilyIPv4, nftables.ChainPolicyDrop, false, established)
			foreignTable(t, nftables.TableFamilyIPv6, nftables.ChainPolicyDrop, false, established)
		}},
		{"firewalld", func(t *testing.T) {
			foreignTable(t, nftables.TableFamilyINet, nftables.ChainPolicyAccept, false, established, dnat, reject)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.attach(t, "a", PortRequest{ContainerPort: 80, HostPort: 8080})
			serve(t, a.Namespace, "a", ":80")
			serve(t, w.outside, "outside", ":8080")
			c.make(t)
			if got := tryWithin(soon, a.Namespace, "tcp", "10.9.0.2:8080"); got == "outside 10.9.0.1" {
				t.Fatal("the firewall of this test stops nothing")
			}
			for range 2 { // the second time there is nothing to do
				check(t, w.Repair(t.Context()))
			}
			for _, c := range []struct{ from, to, want string }{
				{w.outside, "10.9.0.1:8080", "a 10.9.0.2"},
				{w.outside, "[fd09::1]:8080", "a fd09::2"},
				{a.Namespace, "10.9.0.2:8080", "outside 10.9.0.1"},
				{a.Namespace, "[fd09::2]:8080", "outside fd09::1"},
				{a.Namespace, "10.9.0.1:8080", "a 10.79.0.1"},
				{w.outside, a.IPv4.String() + ":80", "dropped"},
			} {
				expect(t, c.from, "tcp", c.to, c.want)
			}
			if again := must(w.passForeign())(t); len(again) != 0 {
				t.Errorf("rules were added once more: %v", again)
			}
			nft := must(nftables.New())(t)
			check(t, w.unpassForeign())
			if bs := must(w.blockers(nft))(t); len(bs) == 0 || bs[0].found != [2]bool{} {
				t.Errorf("after taking the rules out: %+v", bs)
			}
		})
	}
}

// TestNoRouter: forwarding that was switched on for containers does not make the host a
// router between its other interfaces; forwarding that was on before stays what it was.
func TestNoRouter(t *testing.T) {
	w := newWorld(t)
	far := t.TempDir() + "/far"
	check(t, newNamespace(far, func() error { return nil }))
	t.Cleanup(func() { check(t, unpin(far)) })
	// A second network of the host's: the container side of an attachment to another bridge
	// serves as one.
	second := Config{Bridge: "second0", CIDR: netip.MustParsePrefix("10.80.0.0/24"), RunDir: t.TempDir()}
	t.Cleanup(func() { check(t, Remove(context.Background(), second)) })
	n := must(Open(t.Context(), second, nil))(t)
	defer n.Close()
	x := must(n.Attach(t.Context(), Request{ID: "x"}, nil))(t)
	serve(t, x.Namespace, "x", ":80")
	// Without its own table nothing but ours keeps strangers out.
	check(t, n.table.remove())
	check(t, w.Repair(t.Context()))
	if v4, v6 := w.table.opened(); !slices.Equal(v4, []string{"second0", "up0"}) && !slices.Equal(v4, []string{"up0"}) || !slices.Contains(v6, "up0") {
		t.Errorf("opened: %v, %v", v4, v6)
	}
	for _, to := range []netip.Addr{x.IPv4, x.IPv6} {
		expect(t, w.outside, "tcp", netip.AddrPortFrom(to, 80).String(), "dropped")
	}
	// The administrator makes it a router.
	check(t, setSysctl("ipv4/ip_forward", "1"))
	t.Cleanup(func() { check(t, setSysctl("ipv4/ip_forward", "0")) })
	check(t, w.Repair(t.Context()))
	if v4, _ := w.table.opened(); len(v4) != 0 {
		t.Errorf("still closed to %v", v4)
	}
	if got := try(w.outside, "tcp", netip.AddrPortFrom(x.IPv4, 80).String()); got != "x 10.9.0.2" {
		t.Errorf("a router that does not route: %s", got)
	}
}

// TestOpenRefuses: what the operator must mend is said by name.
func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	c := w.config
	c.RunDir = t.TempDir()
	c.Bridge = "other0"
	c.CIDR = netip.MustParsePrefix("10.9.0.0/16")
	if n, err := Open(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "overlaps with 10.9.0.1/24, an address of interface up0") {
		t.Errorf("overlap: %v, %v", n, err)
	}
	check(t, Remove(t.Context(), c))
	c.Bridge = "up0"
	if n, err := Open(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "is a veth, not a bridge") {
		t.Errorf("no bridge: %v, %v", n, err)
	}
	check(t, Remove(t.Context(), c))
	a := w.attach(t, "a")
	moved := w.config
	moved.CIDR = netip.MustParsePrefix("10.81.0.0/24")
	if n, err := Open(t.Context(), moved, []Attachment{a}); err == nil || !strings.Contains(err.Error(), "set ECSD_BRIDGE_CIDR back") {
		t.Errorf("moved: %v, %v", n, err)
	}
	check(t, w.Check(t.Context(), a))
	check(t, os.WriteFile(w.layout.services, []byte(`{"version": 99}`), 0o600))
	if n, err := Open(t.Context(), w.config, []Attachment{a}); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("newer file: %v, %v", n, err)
	}
}

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

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	m := newMetrics(r, "ecsd0")
	err := errors.New("x")
	m.observe("attach", time.Now(), &err)
	m.addresses.Set(3)
	problems := must(testutil.GatherAndLint(r))(t)
	if len(problems) != 0 {
		t.Error(problems)
	}
	if got := testutil.ToFloat64(m.operations.WithLabelValues("attach", "error")); got != 1 {
		t.Errorf("counted %v failed attaches, want 1", got)
	}
}

func BenchmarkAttachDetach(b *testing.B) {
	w := newWorld(b)
	ctx := b.Context()
	for i := 0; b.Loop(); i++ {
		a := must(w.Attach(ctx, Request{ID: fmt.Sprint("x", i), Ports: []PortRequest{{ContainerPort: 80}}}, nil))(b)
		check(b, w.Detach(ctx, a))
	}
}

func BenchmarkCheck(b *testing.B) {
	w := newWorld(b)
	ctx := b.Context()
	var as []Attachment
	for i := range 100 {
		as = append(as, w.attach(b, fmt.Sprint("x", i), PortRequest{ContainerPort: 80}))
	}
	for i := 0; b.Loop(); i++ {
		check(b, w.Check(ctx, as[i%100]))
	}
}

func BenchmarkRepair(b *testing.B) {
	w := newWorld(b)
	for i := range 100 {
		w.attach(b, fmt.Sprint("x", i), PortRequest{ContainerPort: 80})
	}
	for b.Loop() {
		check(b, w.Repair(b.Context()))
	}
}
