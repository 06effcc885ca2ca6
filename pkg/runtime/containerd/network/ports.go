package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"ecsd/pkg/spec"
)

// PortRequest asks for one port of a container, or a range of them, on the host.
type PortRequest struct {
	ContainerPort uint16 // 0 when Range is set
	HostPort      uint16 // 0: a dynamic one. Ranges are always dynamic, as on ECS
	Protocol      string // tcp or udp; "" is tcp
	Range         string // ECS's containerPortRange, "first-last"; "" for one port
}

// hostPort is a port of the host, for one protocol.
type hostPort struct {
	proto string
	port  uint16
}

// span is a PortRequest made plain: n consecutive ports of the container, to be n
// consecutive ports of the host.
type span struct {
	proto     string
	container uint16
	host      uint16 // 0: to be chosen
	n         int
	ranged    bool
}

func parseRequest(r PortRequest) (span, error) {
	s := span{proto: r.Protocol, container: r.ContainerPort, host: r.HostPort, n: 1}
	if s.proto == "" {
		s.proto = "tcp"
	}
	if s.proto != "tcp" && s.proto != "udp" {
		return span{}, fmt.Errorf("port %d: protocol %q: want tcp or udp", r.ContainerPort, r.Protocol)
	}
	if r.Range != "" {
		first, last, err := parseRange(r.Range)
		if err != nil {
			return span{}, fmt.Errorf("containerPortRange: %w", err)
		}
		s.container, s.host, s.n, s.ranged = first, 0, int(last)-int(first)+1, true
	}
	if s.container == 0 {
		return span{}, fmt.Errorf("containerPort: want 1 to 65535")
	}
	return s, nil
}

func parseRange(s string) (first, last uint16, err error) {
	a, b, _ := strings.Cut(s, "-")
	f, err1 := strconv.ParseUint(a, 10, 16)
	l, err2 := strconv.ParseUint(b, 10, 16)
	if err1 != nil || err2 != nil || f == 0 || f > l {
		return 0, 0, fmt.Errorf("%q: want FIRST-LAST with 1 <= FIRST <= LAST <= 65535", s)
	}
	return uint16(f), uint16(l), nil
}

func parseRequests(rs []PortRequest) ([]span, error) {
	var out []span
	for _, r := range rs {
		s, err := parseRequest(r)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// binding is the span in ECS's words.
func (s span) binding() spec.NetworkBinding {
	b := spec.NetworkBinding{BindIP: "0.0.0.0", Protocol: s.proto}
	if s.ranged {
		b.ContainerPortRange = fmt.Sprintf("%d-%d", s.container, int(s.container)+s.n-1)
		b.HostPortRange = fmt.Sprintf("%d-%d", s.host, int(s.host)+s.n-1)
	} else {
		b.ContainerPort, b.HostPort = int(s.container), int(s.host)
	}
	return b
}

// spanOf is the span that a binding describes.
func spanOf(b spec.NetworkBinding) (span, error) {
	r := PortRequest{Protocol: b.Protocol, Range: b.ContainerPortRange}
	if b.ContainerPortRange == "" {
		if b.ContainerPort < 1 || b.ContainerPort > 65535 || b.HostPort < 1 || b.HostPort > 65535 {
			return span{}, fmt.Errorf("binding of container port %d to host port %d: want 1 to 65535", b.ContainerPort, b.HostPort)
		}
		r.ContainerPort, r.HostPort = uint16(b.ContainerPort), uint16(b.HostPort)
		return parseRequest(r)
	}
	s, err := parseRequest(r)
	if err != nil {
		return span{}, err
	}
	first, last, err := parseRange(b.HostPortRange)
	if err != nil {
		return span{}, fmt.Errorf("hostPortRange: %w", err)
	}
	if int(last)-int(first)+1 != s.n {
		return span{}, fmt.Errorf("hostPortRange %s is not as large as containerPortRange %s", b.HostPortRange, b.ContainerPortRange)
	}
	s.host = first
	return s, nil
}

// ports lists the host ports of a span that has them.
func (s span) ports() []hostPort {
	out := make([]hostPort, s.n)
	for i := range out {
		out[i] = hostPort{s.proto, s.host + uint16(i)}
	}
	return out
}

// keeps reports whether bindings of an earlier attachment answer a request as it is now:
// the same ports in the same order, the static ones at the host port asked for.
func keeps(have []spec.NetworkBinding, want []span) bool {
	if len(have) != len(want) {
		return false
	}
	for i, w := range want {
		h, err := spanOf(have[i])
		if err != nil {
			return false
		}
		if w.host == 0 {
			h.host = 0
		}
		if h != w {
			return false
		}
	}
	return true
}

// mapping is one published port: what arrives for a port of the host goes to an address.
type mapping struct {
	hostPort
	to4, to6 netip.AddrPort // to6 is the zero value without IPv6
}

// mappings spells out what an attachment publishes.
func mappings(a Attachment) ([]mapping, error) {
	var out []mapping
	for _, b := range a.Ports {
		s, err := spanOf(b)
		if err != nil {
			return nil, fmt.Errorf("attachment %s: %w", a.ID, err)
		}
		for i, p := range s.ports() {
			m := mapping{hostPort: p, to4: netip.AddrPortFrom(a.IPv4, s.container+uint16(i))}
			if a.IPv6.IsValid() {
				m.to6 = netip.AddrPortFrom(a.IPv6, s.container+uint16(i))
			}
			out = append(out, m)
		}
	}
	return out, nil
}

// book knows who holds which host port. It gives ports out; whether the host itself uses
// one is found out by reserving it.
type book struct {
	first, last uint16 // of the dynamic range
	cursor      uint16 // the dynamic port given last
	held        map[hostPort]string
}

// hold marks ports as held, all or none, and names the holder of the first that is taken.
func (b *book) hold(ports []hostPort, holder string) error {
	for i, p := range ports {
		if h, taken := b.held[p]; taken {
			b.free(ports[:i])
			return &PortInUseError{Port: p.port, Protocol: p.proto, Holder: h}
		}
		b.held[p] = holder
	}
	return nil
}

// free lets go of ports. Ones that nobody holds stay so.
func (b *book) free(ports []hostPort) {
	for _, p := range ports {
		delete(b.held, p)
	}
}

// choose holds n consecutive dynamic ports, going on from the ones given last, and leaves
// out those that avoid names (the host uses them). It returns the first of them.
func (b *book) choose(proto string, n int, holder string, avoid map[hostPort]bool) (uint16, error) {
	size := int(b.last) - int(b.first) + 1
	start := 0
	if b.cursor >= b.first && b.cursor < b.last {
		start = int(b.cursor) - int(b.first) + 1
	}
	run, at := 0, 0 // length and first of the free run that ends here
	for i := range size + n - 1 {
		o := (start + i) % size
		if o == 0 || i == 0 {
			run = 0 // a range does not wrap
		}
		if run == 0 {
			at = int(b.first) + o
		}
		p := hostPort{proto, uint16(int(b.first) + o)}
		if _, taken := b.held[p]; taken || avoid[p] {
			run = 0
			continue
		}
		if run++; run < n {
			continue
		}
		for j := range n {
			b.held[hostPort{proto, uint16(at + j)}] = holder
		}
		b.cursor = uint16(at + n - 1)
		return uint16(at), nil
	}
	what := "host port"
	if n > 1 {
		what = fmt.Sprintf("%d consecutive host ports", n)
	}
	return 0, fmt.Errorf("no free %s in the dynamic range %d-%d/%s: stop some tasks or widen ECS_DYNAMIC_HOST_PORT_RANGE", what, b.first, b.last, proto)
}
