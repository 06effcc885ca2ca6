package network

import (
	"errors"
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

// udpChanged notes that UDP ports lead elsewhere now. Deleting the flows of old takes the
// kernel a walk through all connections, 10 ms or so, so Run does it right after, for all
// ports that changed meanwhile at once, and the start of a container does not wait.
func (n *Network) udpChanged(ports ...hostPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range ports {
		if p.proto == "udp" {
			n.movedUDP[p] = true
		}
	}
	if len(n.movedUDP) > 0 {
		select {
		case n.udpMoved <- struct{}{}:
		default:
		}
	}
}

// forgetUDP deletes the flows to UDP ports noted by udpChanged that do not go where the
// table now leads. It is a courtesy: failing, it is logged, and clients move when they pause.
func (n *Network) forgetUDP() {
	n.mu.Lock()
	moved := n.movedUDP
	n.movedUDP = map[hostPort]bool{}
	n.mu.Unlock()
	if len(moved) == 0 {
		return
	}
	if err := n.deleteStrays(n.table.leads(moved)); err != nil {
		n.log.Warn("UDP flows of a changed port could not be deleted", "error", err)
	}
}

func (n *Network) deleteStrays(to map[uint16][]netip.AddrPort) error {
	addrs, err := whole(func() ([]netlink.Addr, error) { return n.links.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	s := strays{to: to, host: map[netip.Addr]bool{}}
	for _, a := range addrs {
		s.host[addrOf(a.IP)] = true
	}
	// The handle must be one for netfilter: with another, the library quietly opens a
	// socket of its own.
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, s)
	if n.v6 {
		_, err6 := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET6, s)
		err = errors.Join(err, err6)
	}
	return err
}
