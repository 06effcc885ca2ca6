package network

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"ecsd/pkg/spec"
)

func TestLayout(t *testing.T) {
	l := must(newLayout(Config{RunDir: "/run/ecsd"}))(t)
	for _, c := range []struct{ what, got, want string }{
		{"bridge", l.bridge, "ecsd0"},
		{"table", l.table, "ecsd0"},
		{"network", l.cidr.String(), "172.30.0.0/16"},
		{"gateway", l.gateway.String(), "172.30.0.1"},
		// These follow from a hash and must never change: a restarted agent finds its own by them.
		{"IPv6 network", l.cidr6.String(), "fd82:3100:5fe3::/64"},
		{"IPv6 gateway", l.gateway6.String(), "fd82:3100:5fe3::1"},
		{"MAC", l.mac.String(), "02:ec:f7:b6:50:29"},
		{"veth prefix", l.veth, "ec1b65"},
		{"IPv6 of a container", l.ipv6Of(netip.MustParseAddr("172.30.1.2")).String(), "fd82:3100:5fe3::102"},
		{"MAC of a container", macOf(netip.MustParseAddr("172.30.1.2")).String(), "02:ec:ac:1e:01:02"},
		{"pin", l.pin("x-0"), "/run/ecsd/netns/x-0"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, c.got, c.want)
		}
	}
	other := must(newLayout(Config{Bridge: "ecsd1", RunDir: "/run/ecsd"}))(t)
	if other.veth == l.veth || other.cidr6 == l.cidr6 {
		t.Error("another bridge has the same names")
	}
	if n := l.vethName(); len(n) > 15 || n == l.vethName() {
		t.Errorf("host side %q: want a fresh name of at most 15 characters", n)
	}
	if got := identifier("br-0.1"); got != "br_0.1" {
		t.Errorf("table of br-0.1: %s", got)
	}
}

func TestLayoutRefuses(t *testing.T) {
	for want, c := range map[string]Config{
		"bridge name":          {Bridge: "a-name-too-long-for-linux", RunDir: "/r"},
		"without blanks":       {Bridge: "a b", RunDir: "/r"},
		"want an IPv4":         {CIDR: netip.MustParsePrefix("fd00::/64"), RunDir: "/r"},
		"want /30 or larger":   {CIDR: netip.MustParsePrefix("10.0.0.0/31"), RunDir: "/r"},
		"an absolute path":     {RunDir: "run"},
		`run directory "": wa`: {},
	} {
		if _, err := newLayout(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want an error with %q", c, err, want)
		}
	}
}

func TestPoolGoesOn(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.0.0.0/29")) // .2 to .6
	var got []string
	next := func() netip.Addr {
		a := must(p.next())(t)
		got = append(got, a.String()[len("10.0.0."):])
		return a
	}
	a := next()
	next()
	p.release(a)
	next()
	next()
	next()
	next() // wraps: the one freed first of all
	if want := "2 3 4 5 6 2"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if a, err := p.next(); err == nil || !strings.Contains(err.Error(), "ECSD_BRIDGE_CIDR") {
		t.Errorf("full pool: got %s, %v", a, err)
	}
	for _, a := range []string{"10.0.0.0", "10.0.0.1", "10.0.0.7", "10.0.1.2", "fd00::2", "10.0.0.2"} {
		if p.take(netip.MustParseAddr(a)) {
			t.Errorf("%s was given though it is not free or not ours", a)
		}
	}
	if p.take(netip.Addr{}) {
		t.Error("no address was taken")
	}
}

// TestPoolProperties: whatever is taken and released, no address is given twice or lies
// outside, and none is refused while one is free.
func TestPoolProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cidr := netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), rapid.IntRange(26, 30).Draw(t, "bits"))
		room := 1<<(32-cidr.Bits()) - 3
		p, out := newPool(cidr), map[netip.Addr]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"next": func(t *rapid.T) {
				a, err := p.next()
				if (err != nil) != (len(out) == room) {
					t.Fatalf("%d of %d in use: %v", len(out), room, err)
				}
				if err != nil {
					return
				}
				last := addrAt(cidr, uint32(room)+2)
				if out[a] || !cidr.Contains(a) || a == cidr.Addr() || a == cidr.Addr().Next() || a == last {
					t.Fatalf("gave %s", a)
				}
				out[a] = true
			},
			"release": func(t *rapid.T) {
				for a := range out {
					p.release(a)
					delete(out, a)
					return
				}
			},
		})
	})
}

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		in   PortRequest
		want string // the binding at host port 40000 when it is dynamic; or the error
	}{
		{PortRequest{ContainerPort: 80}, "tcp 80 40000"},
		{PortRequest{ContainerPort: 80, HostPort: 8080, Protocol: "udp"}, "udp 80 8080"},
		{PortRequest{Range: "100-109", Protocol: "tcp"}, "tcp 100-109 40000-40009"},
		{PortRequest{Range: "7-7"}, "tcp 7-7 40000-40000"},
		{PortRequest{ContainerPort: 80, Protocol: "sctp"}, `port 80: protocol "sctp": want tcp or udp`},
		{PortRequest{}, "containerPort: want 1 to 65535"},
		{PortRequest{Range: "9-3"}, `containerPortRange: "9-3": want FIRST-LAST with 1 <= FIRST <= LAST <= 65535`},
		{PortRequest{Range: "0-3"}, `containerPortRange: "0-3": want FIRST-LAST with 1 <= FIRST <= LAST <= 65535`},
		{PortRequest{Range: "3"}, `containerPortRange: "3": want FIRST-LAST with 1 <= FIRST <= LAST <= 65535`},
		{PortRequest{Range: "1-65536"}, `containerPortRange: "1-65536": want FIRST-LAST with 1 <= FIRST <= LAST <= 65535`},
	} {
		s, err := parseRequest(c.in)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			if s.host == 0 {
				s.host = 40000
			}
			got = words(s.binding())
			if back, err := spanOf(s.binding()); err != nil || back != s {
				t.Errorf("%+v: read back as %+v, %v", s, back, err)
			}
		}
		if got != c.want {
			t.Errorf("%+v: got %s, want %s", c.in, got, c.want)
		}
	}
}

func words(b spec.NetworkBinding) string {
	if b.ContainerPortRange != "" {
		return b.Protocol + " " + b.ContainerPortRange + " " + b.HostPortRange
	}
	return b.Protocol + " " + strconv.Itoa(b.ContainerPort) + " " + strconv.Itoa(b.HostPort)
}

func TestKeeps(t *testing.T) {
	have := []spec.NetworkBinding{
		{Protocol: "tcp", ContainerPort: 80, HostPort: 40000},
		{Protocol: "tcp", ContainerPortRange: "100-101", HostPortRange: "40001-40002"},
	}
	r := func(hostPort uint16, ranged string) []span {
		return must(parseRequests([]PortRequest{{ContainerPort: 80, HostPort: hostPort}, {Range: ranged}}))(t)
	}
	for _, c := range []struct {
		name string
		want []span
		keep bool
	}{
		{"dynamic as given", r(0, "100-101"), true},
		{"static at the same port", r(40000, "100-101"), true},
		{"static at another", r(8080, "100-101"), false},
		{"another range", r(0, "100-102"), false},
		{"fewer", r(0, "100-101")[:1], false},
		{"none", nil, false},
	} {
		if got := keeps(have, c.want); got != c.keep {
			t.Errorf("%s: got %t", c.name, got)
		}
	}
}

func TestMappings(t *testing.T) {
	a := Attachment{ID: "x", IPv4: netip.MustParseAddr("10.0.0.2"), IPv6: netip.MustParseAddr("fd00::2"), Ports: []spec.NetworkBinding{
		{Protocol: "udp", ContainerPortRange: "100-101", HostPortRange: "40001-40002"},
		{Protocol: "tcp", ContainerPort: 80, HostPort: 8080},
	}}
	var got []string
	for _, m := range must(mappings(a))(t) {
		got = append(got, m.hostPort.String()+" "+m.to4.String()+" "+m.to6.String())
	}
	want := []string{"40001/udp 10.0.0.2:100 [fd00::2]:100", "40002/udp 10.0.0.2:101 [fd00::2]:101", "8080/tcp 10.0.0.2:80 [fd00::2]:80"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []spec.NetworkBinding{
		{Protocol: "tcp", ContainerPort: 80},
		{Protocol: "tcp", ContainerPort: 80, HostPort: 70000},
		{Protocol: "tcp", ContainerPortRange: "1-2", HostPortRange: "5-9"},
		{Protocol: "tcp", ContainerPortRange: "1-2", HostPortRange: "x"},
	} {
		a.Ports = []spec.NetworkBinding{bad}
		if ms, err := mappings(a); err == nil {
			t.Errorf("%+v became %v", bad, ms)
		}
	}
}

func newBook(first, last uint16) *book {
	return &book{first: first, last: last, held: map[hostPort]string{}}
}

func TestBookHoldsAllOrNone(t *testing.T) {
	b := newBook(100, 200)
	check(t, b.hold([]hostPort{{"tcp", 80}, {"udp", 80}}, "a"))
	err := b.hold([]hostPort{{"tcp", 81}, {"tcp", 80}}, "b")
	var used *PortInUseError
	if !errors.As(err, &used) || *used != (PortInUseError{80, "tcp", "a"}) {
		t.Fatalf("got %v", err)
	}
	if err.Error() != "host port 80/tcp is in use by a" {
		t.Errorf("in words: %s", err)
	}
	check(t, b.hold([]hostPort{{"tcp", 81}}, "c")) // b got neither
	b.free([]hostPort{{"tcp", 80}, {"tcp", 4711}})
	check(t, b.hold([]hostPort{{"tcp", 80}}, "d"))
}

func TestBookChooses(t *testing.T) {
	b := newBook(100, 104)
	check(t, b.hold([]hostPort{{"tcp", 101}}, "static"))
	choose := func(n int, avoid ...uint16) string {
		m := map[hostPort]bool{}
		for _, p := range avoid {
			m[hostPort{"tcp", p}] = true
		}
		p, err := b.choose("tcp", n, "x", m)
		if err != nil {
			return err.Error()
		}
		return strconv.Itoa(int(p))
	}
	free := func(p ...uint16) {
		for _, p := range p {
			b.free([]hostPort{{"tcp", p}})
		}
	}
	for _, step := range []struct {
		do   func() string
		want string
	}{
		{func() string { return choose(1) }, "100"},
		{func() string { return choose(1, 102) }, "103"},
		{func() string { free(100); return choose(1) }, "104"}, // goes on, 100 was just freed
		{func() string { return choose(1) }, "100"},            // wraps
		{func() string { return choose(1) }, "102"},
		{func() string { return choose(1) }, "no free host port in the dynamic range 100-104/tcp: stop some tasks or widen ECS_DYNAMIC_HOST_PORT_RANGE"},
		{func() string { free(103, 100, 104); return choose(2) }, "103"},
		{func() string { free(103, 104, 102); return choose(3) }, "102"},
		{func() string { return choose(2) }, "no free 2 consecutive host ports in the dynamic range 100-104/tcp: stop some tasks or widen ECS_DYNAMIC_HOST_PORT_RANGE"},
	} {
		if got := step.do(); got != step.want {
			t.Fatalf("got %s, want %s (held: %v)", got, step.want, b.held)
		}
	}
}

// TestBookProperties: ports chosen are free, consecutive and in the range; and a choice
// fails only if a search that tries every place finds none either.
func TestBookProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBook(10, 10+uint16(rapid.IntRange(0, 12).Draw(t, "size")))
		avoid := map[hostPort]bool{}
		for _, p := range rapid.SliceOf(rapid.Uint16Range(9, 23)).Draw(t, "avoid") {
			avoid[hostPort{"tcp", p}] = true
		}
		fits := func(at, n int) bool {
			for p := at; p < at+n; p++ {
				if _, held := b.held[hostPort{"tcp", uint16(p)}]; held || avoid[hostPort{"tcp", uint16(p)}] || p > int(b.last) {
					return false
				}
			}
			return true
		}
		t.Repeat(map[string]func(*rapid.T){
			"choose": func(t *rapid.T) {
				n, possible := rapid.IntRange(1, 4).Draw(t, "n"), map[int]bool{}
				for at := int(b.first); at <= int(b.last); at++ {
					if fits(at, n) {
						possible[at] = true
					}
				}
				got, err := b.choose("tcp", n, "x", avoid)
				if (err == nil) != (len(possible) > 0) || err == nil && !possible[int(got)] {
					t.Fatalf("%d from %d, %v; possible are %v", n, got, err, possible)
				}
			},
			"free": func(t *rapid.T) {
				b.free([]hostPort{{"tcp", rapid.Uint16Range(10, 22).Draw(t, "port")}})
			},
		})
	})
}

func TestKeysRoundTrip(t *testing.T) {
	for _, p := range []hostPort{{"tcp", 1}, {"udp", 65535}, {"tcp", 8080}} {
		if got := portOfKey(p.key()); got != p {
			t.Errorf("%v became %v", p, got)
		}
	}
}

func TestStrays(t *testing.T) {
	flow := func(proto uint8, dst string, port uint16, from string, fromPort uint16) *netlink.ConntrackFlow {
		return &netlink.ConntrackFlow{
			Forward: netlink.IPTuple{Protocol: proto, DstIP: net.ParseIP(dst), DstPort: port},
			Reverse: netlink.IPTuple{SrcIP: net.ParseIP(from), SrcPort: fromPort}}
	}
	s := strays{to: map[uint16][]netip.AddrPort{53: {netip.MustParseAddrPort("10.0.0.2:5353")}, 54: nil}, host: map[netip.Addr]bool{hostAddr4: true}}
	for _, c := range []struct {
		name string
		flow *netlink.ConntrackFlow
		want bool
	}{
		{"went elsewhere", flow(unix.IPPROTO_UDP, "10.9.0.1", 53, "10.0.0.9", 5353), true},
		{"went to the host itself", flow(unix.IPPROTO_UDP, "10.9.0.1", 53, "10.9.0.1", 53), true},
		{"by 127.0.0.1", flow(unix.IPPROTO_UDP, "127.0.0.1", 53, "10.0.0.9", 5353), true},
		{"at its place", flow(unix.IPPROTO_UDP, "10.9.0.1", 53, "10.0.0.2", 5353), false},
		{"to another host", flow(unix.IPPROTO_UDP, "10.9.0.2", 53, "10.9.0.2", 53), false},
		{"to another port", flow(unix.IPPROTO_UDP, "10.9.0.1", 55, "10.0.0.9", 5353), false},
		{"TCP drains", flow(unix.IPPROTO_TCP, "10.9.0.1", 53, "10.0.0.9", 5353), false},
		{"port that closed", flow(unix.IPPROTO_UDP, "10.9.0.1", 54, "10.0.0.2", 5353), true},
	} {
		if got := s.MatchConntrackFlow(c.flow); got != c.want {
			t.Errorf("%s: got %t", c.name, got)
		}
	}
}

func TestListeningInode(t *testing.T) {
	const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
`
	for port, want := range map[uint16]string{0x1F90: "4711", 0x1F91: "", 0x1F92: ""} {
		got, found := listeningInode(bufio.NewScanner(strings.NewReader(tcp)), hostPort{"tcp", port})
		if got != want || found != (want != "") {
			t.Errorf("port %d: got %q, %t", port, got, found)
		}
	}
}

// TestWhole: a list is asked for again while it changes, and not for ever.
func TestWhole(t *testing.T) {
	asked := 0
	answer := func(interrupted int) func() ([]int, error) {
		asked = 0
		return func() ([]int, error) {
			if asked++; asked <= interrupted {
				return []int{1}, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
			}
			return []int{1, 2}, nil
		}
	}
	for interrupted, want := range map[int]int{0: 1, 3: 4} {
		all, err := whole(answer(interrupted))
		if len(all) != 2 || err != nil || asked != want {
			t.Errorf("a list that was interrupted %d times: %v, %v after %d", interrupted, all, err, asked)
		}
	}
	if _, err := whole(answer(1000)); !errors.Is(err, netlink.ErrDumpInterrupted) || asked != dumpTries {
		t.Errorf("a list that is always interrupted: %v after %d", err, asked)
	}
}
