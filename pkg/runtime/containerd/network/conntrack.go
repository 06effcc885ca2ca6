package network

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// UDP has no connections, but the kernel makes some up: a client that goes on sending
// from the same port is sent to where its first packet went, published there or not. So
// when a UDP port changes hands, the connections of old are deleted. (TCP's are kept:
// that is draining.)

// strays matches UDP flows that came to one of the ports of the host and went elsewhere
// than to its present backends.
type strays struct {
	to   map[uint16][]netip.AddrPort // by host port
	host map[netip.Addr]bool         // the host's addresses
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s strays) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, is := s.to[f.Forward.DstPort]
	if dst := addrOf(f.Forward.DstIP); !is || !s.host[dst] && !dst.IsLoopback() {
		return false
	}
	answers := netip.AddrPortFrom(addrOf(f.Reverse.SrcIP), f.Reverse.SrcPort)
	for _, a := range to {
		if a == answers {
			return false
		}
	}
	return true
}

func addrOf(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// forgetUDP deletes the flows to UDP ports of the host that do not go where they now
// should. It is a courtesy: failing, it is logged, and clients move when they pause.
func (n *Network) forgetUDP(to map[uint16][]netip.AddrPort) {
	if len(to) == 0 {
		return
	}
	addrs, err := n.links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		n.log.Warn("UDP flows of a changed port could not be deleted", "error", err)
		return
	}
	s := strays{to: to, host: map[netip.Addr]bool{}}
	for _, a := range addrs {
		s.host[addrOf(a.IP)] = true
	}
	// The handle must be one for netfilter: with another, the library quietly opens a
	// socket of its own.
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		n.log.Warn("UDP flows of a changed port could not be deleted", "error", err)
		return
	}
	defer h.Close()
	families := []netlink.InetFamily{unix.AF_INET}
	if n.v6 {
		families = append(families, unix.AF_INET6)
	}
	for _, f := range families {
		if _, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, f, s); err != nil {
			n.log.Warn("UDP flows of a changed port could not be deleted", "error", err)
		}
	}
}
