package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/vishvananda/netlink"

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

	w.open(t, a, b) // drops the backends that are gone
	before := w.generation(t)
	w.open(t, a, b)
	if after := w.generation(t); after != before {
		t.Errorf("a restart at which nothing had changed changed the rule set, from generation %d to %d", before, after)
	}

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

func (w *world) generation(t *testing.T) uint32 {
	t.Helper()
	l := must(dial())(t)
	defer l.close()
	return must(l.generation())(t)
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
	// A port that cannot be had costs a container that lives neither.
	w.attach(t, "c", PortRequest{ContainerPort: 80, HostPort: 8082})
	_, err := w.Attach(t.Context(), Request{ID: "a", Ports: []PortRequest{{ContainerPort: 80, HostPort: 8082}}}, &b)
	wantInUse(t, err, 8082, "container c")
	again := must(w.Attach(t.Context(), Request{ID: "a", Ports: []PortRequest{{ContainerPort: 80, HostPort: 8081}}}, &b))(t)
	if again.IPv4 != a.IPv4 || again.HostInterface != a.HostInterface {
		t.Errorf("moved from %+v to %+v", a, again)
	}
	expect(t, w.outside, "tcp", "10.9.0.1:8081", "a 10.9.0.2")
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
		{"another version's table", func() {
			nft.DelChain(&nftables.Chain{Table: table, Name: marker(chains(w.layout))})
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
