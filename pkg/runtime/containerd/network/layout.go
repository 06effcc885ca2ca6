package network

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults of Config.
const (
	DefaultBridge = "ecsd0"
	DefaultCIDR   = "172.30.0.0/16"
)

// Config says where a Network lives. Everything that a Network makes on the machine is
// named after Bridge or lies under RunDir, so several can live side by side on one host.
type Config struct {
	// Bridge names the bridge, and with it the nftables table (DefaultBridge when empty).
	Bridge string
	// CIDR is the IPv4 network of the bridge, /30 or larger (DefaultCIDR when zero). Its
	// first address is the bridge's own. The IPv6 network is derived from it.
	CIDR netip.Prefix
	// RunDir holds the pins of the namespaces, in RunDir/netns, and service-ports.json.
	// It belongs on tmpfs: what it holds does not outlive a boot.
	RunDir string
	// DynamicPorts are the first and last host port to choose from when a task asks for
	// port 0 or for a range (ECS_DYNAMIC_HOST_PORT_RANGE). Zero: the kernel's
	// net.ipv4.ip_local_port_range.
	DynamicPorts [2]uint16
	// ReservedPorts are TCP ports that no container gets (ECS_RESERVED_PORTS).
	ReservedPorts []uint16
	// ReservedPortsUDP are UDP ports that no container gets (ECS_RESERVED_PORTS_UDP).
	ReservedPortsUDP []uint16
	// Log may be nil.
	Log *slog.Logger
	// Registerer may be nil: then the metrics are kept but not shown.
	Registerer prometheus.Registerer
}

// layout is everything that follows from a Config: the names and addresses in use. It is
// a value; the same Config gives the same layout on every start, which is how a
// restarted agent recognises what it made.
type layout struct {
	bridge   string
	table    string // of nftables, family inet
	cidr     netip.Prefix
	gateway  netip.Addr
	cidr6    netip.Prefix // a /64 of fd00::/8
	gateway6 netip.Addr
	mac      net.HardwareAddr // of the bridge: fixed, so that containers' neighbour entries survive its loss
	veth     string           // prefix of the names of host sides
	pins     string           // directory
	services string           // file
}

func newLayout(c Config) (layout, error) {
	if c.Bridge == "" {
		c.Bridge = DefaultBridge
	}
	if !c.CIDR.IsValid() {
		c.CIDR = netip.MustParsePrefix(DefaultCIDR)
	}
	switch {
	case len(c.Bridge) > 15 || strings.ContainsAny(c.Bridge, "/ \t\n:%") || c.Bridge == "." || c.Bridge == "..":
		return layout{}, fmt.Errorf("bridge name %q: want 1 to 15 characters without blanks, slashes, colons and percent signs", c.Bridge)
	case !c.CIDR.Addr().Is4():
		return layout{}, fmt.Errorf("bridge network %s: want an IPv4 network; the IPv6 one is derived from it", c.CIDR)
	case c.CIDR.Bits() > 30:
		return layout{}, fmt.Errorf("bridge network %s: want /30 or larger, to hold the bridge and at least one container", c.CIDR)
	case c.RunDir == "" || !filepath.IsAbs(c.RunDir):
		return layout{}, fmt.Errorf("run directory %q: want an absolute path", c.RunDir)
	}
	c.CIDR = c.CIDR.Masked()
	sum := sha256.Sum256([]byte(c.Bridge + " " + c.CIDR.String()))
	bridgeSum := sha256.Sum256([]byte(c.Bridge))
	l := layout{
		bridge:   c.Bridge,
		table:    identifier(c.Bridge),
		cidr:     c.CIDR,
		gateway:  c.CIDR.Addr().Next(),
		mac:      net.HardwareAddr{0x02, 0xec, sum[8], sum[9], sum[10], sum[11]},
		veth:     "ec" + hex.EncodeToString(bridgeSum[:2]),
		pins:     filepath.Join(c.RunDir, "netns"),
		services: filepath.Join(c.RunDir, "service-ports.json"),
	}
	// A unique local prefix (RFC 4193): fd, 40 bits that stand for this bridge, subnet 0.
	prefix := [16]byte{0: 0xfd}
	copy(prefix[1:6], sum[:5])
	l.cidr6 = netip.PrefixFrom(netip.AddrFrom16(prefix), 64)
	l.gateway6 = l.ipv6Of(l.gateway)
	return l, nil
}

// ipv6Of is the IPv6 address that belongs to an IPv4 address of the bridge's network:
// the same offset, in the IPv6 network.
func (l layout) ipv6Of(a netip.Addr) netip.Addr {
	b := l.cidr6.Addr().As16()
	binary.BigEndian.PutUint32(b[12:], offsetIn(l.cidr, a))
	return netip.AddrFrom16(b)
}

// macOf is the hardware address of the container with that IPv4 address. It follows the
// address, so that neighbours' entries stay right when the address is used again.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0xec, b[0], b[1], b[2], b[3]}
}

// identifier turns an interface name into a name that nft(8) can parse unquoted.
func identifier(s string) string {
	out := []byte(s)
	for i, c := range out {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', i > 0 && c >= '0' && c <= '9', i > 0 && c == '.':
		default:
			out[i] = '_'
		}
	}
	return string(out)
}

// offsetIn is a's distance from the first address of p.
func offsetIn(p netip.Prefix, a netip.Addr) uint32 {
	base, at := p.Addr().As4(), a.As4()
	return binary.BigEndian.Uint32(at[:]) - binary.BigEndian.Uint32(base[:])
}

// addrAt is the address at that offset in p.
func addrAt(p netip.Prefix, offset uint32) netip.Addr {
	base := p.Addr().As4()
	binary.BigEndian.PutUint32(base[:], binary.BigEndian.Uint32(base[:])+offset)
	return netip.AddrFrom4(base)
}

// vethRandom is how many random digits follow the prefix of a host side's name.
const vethRandom = 8

// vethName is a fresh name for a host side: one that is on its way out keeps its own for
// some 100 ms.
func (l layout) vethName() string { return fmt.Sprintf("%s%08x", l.veth, rand.Uint32()) }
