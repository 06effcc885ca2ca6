package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Inside a container the interface has the name that everybody expects.
const containerInterface = "eth0"

const defaultMTU = 1500

// ensureBridge makes the bridge, or puts right what differs of it, and returns its index
// and whether it had to be made.
func (n *Network) ensureBridge() (index int, made bool, err error) {
	l := n.layout
	link, err := n.links.LinkByName(l.bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		if err := n.checkOverlap(); err != nil {
			return 0, false, err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = l.bridge, l.mac, n.uplinkMTU()
		if err := n.links.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
			return 0, false, fmt.Errorf("make bridge %s: %w", l.bridge, err)
		}
		made = true
		link, err = n.links.LinkByName(l.bridge)
	}
	if err != nil {
		return 0, made, fmt.Errorf("bridge %s: %w", l.bridge, err)
	}
	if link.Type() != "bridge" {
		return 0, made, fmt.Errorf("interface %s exists and is a %s, not a bridge: choose another name (ECSD_BRIDGE)", l.bridge, link.Type())
	}
	if err := n.bridgeSysctls(); err != nil {
		return 0, made, err
	}
	if err := n.ensureBridgeAddresses(link); err != nil {
		return 0, made, err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := n.links.LinkSetUp(link); err != nil {
			return 0, made, fmt.Errorf("bring up bridge %s: %w", l.bridge, err)
		}
		if err := settle(n.links, link.Attrs().Index); err != nil {
			return 0, made, fmt.Errorf("bridge %s: %w", l.bridge, err)
		}
	}
	return link.Attrs().Index, made, nil
}

func (n *Network) bridgeSysctls() error {
	br := n.layout.bridge
	err := setSysctl("ipv4/conf/"+br+"/route_localnet", "1")
	if n.v6 {
		// Duplicate address detection would hold IPv6 up for two seconds; a container's
		// router advertisement is nothing that the host should hear.
		err = errors.Join(err,
			setSysctl("ipv6/conf/"+br+"/accept_dad", "0"),
			setSysctl("ipv6/conf/"+br+"/accept_ra", "0"))
	}
	return err
}

func (n *Network) ensureBridgeAddresses(link netlink.Link) error {
	l := n.layout
	have, err := whole(func() ([]netlink.Addr, error) { return n.links.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("addresses of bridge %s: %w", l.bridge, err)
	}
	want := []netip.Prefix{netip.PrefixFrom(l.gateway, l.cidr.Bits())}
	if n.v6 {
		want = append(want, netip.PrefixFrom(l.gateway6, l.cidr6.Bits()))
	}
	linkLocal := false
	for _, a := range have {
		p := prefixOf(a.IPNet)
		linkLocal = linkLocal || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
		if slices.Contains(want, p) || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		// Of an earlier configuration of this bridge.
		if err := n.links.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s of bridge %s: %w", p, l.bridge, err)
		}
	}
	if up := link.Attrs().Flags&net.FlagUp != 0; n.v6 && up && !linkLocal {
		// The kernel gives one when the link comes up; without it no neighbour is found.
		want = append(want, netip.PrefixFrom(linkLocalOf(l.mac), 64))
	}
	for _, p := range want {
		if slices.ContainsFunc(have, func(a netlink.Addr) bool { return prefixOf(a.IPNet) == p }) {
			continue
		}
		if err := n.links.AddrReplace(link, address(p)); err != nil {
			return fmt.Errorf("address %s of bridge %s: %w", p, l.bridge, err)
		}
	}
	return nil
}

// checkOverlap refuses a network that an interface of the host is in already.
func (n *Network) checkOverlap() error {
	addrs, err := whole(func() ([]netlink.Addr, error) { return n.links.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("addresses of the host: %w", err)
	}
	for _, a := range addrs {
		if p := prefixOf(a.IPNet); p.Masked().Overlaps(n.layout.cidr) {
			return fmt.Errorf("the bridge's network %s overlaps with %s, an address of interface %s: choose another (ECSD_BRIDGE_CIDR)", n.layout.cidr, p, a.Label)
		}
	}
	return nil
}

// uplinkMTU is the MTU for bridge and containers: that of the interface the default route
// leads to where it is smaller than Ethernet's.
func (n *Network) uplinkMTU() int {
	routes, err := whole(func() ([]netlink.Route, error) { return n.links.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return defaultMTU
	}
	mtu := defaultMTU
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := n.links.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU > 0 {
			mtu = min(mtu, link.Attrs().MTU)
		}
	}
	return mtu
}

// addressed lists the host's interfaces with an address that others can reach, without lo
// and our bridge: a published port may be asked for on any of them.
func (n *Network) addressed(family int) ([]string, error) {
	links, err := whole(n.links.LinkList)
	if err != nil {
		return nil, fmt.Errorf("interfaces of the host: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback == 0 && l.Attrs().Name != n.layout.bridge {
			names[l.Attrs().Index] = l.Attrs().Name
		}
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return n.links.AddrList(nil, family) })
	if err != nil {
		return nil, fmt.Errorf("addresses of the host: %w", err)
	}
	var out []string
	for _, a := range addrs {
		name, is := names[a.LinkIndex]
		if is && prefixOf(a.IPNet).Addr().IsGlobalUnicast() && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// plug connects the namespace pinned at a.Namespace to the bridge: a veth pair with its
// host side in the bridge, addresses and default routes. Whatever is in place already
// stays.
func (n *Network) plug(a Attachment, bridge int) error {
	host, err := n.links.LinkByName(a.HostInterface)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		host, err = n.newVeth(a)
	}
	if err != nil {
		return fmt.Errorf("interface %s of %s: %w", a.HostInterface, a.ID, err)
	}
	ns, err := os.Open(a.Namespace)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	in, err := netlink.NewHandleAt(netns.NsHandle(int(ns.Fd())), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", a.Namespace, err)
	}
	defer in.Close()
	// The host side comes up first: IPv6 on the other is ready at once only when it finds
	// a carrier.
	if err := n.enslave(host, bridge); err != nil {
		return fmt.Errorf("interface %s of %s: %w", a.HostInterface, a.ID, err)
	}
	eth, err := n.configure(in, a)
	if err != nil {
		return err
	}
	return wrap(errors.Join(settle(in, eth), settle(n.links, host.Attrs().Index), settle(n.links, bridge)), "interface %s of %s", a.HostInterface, a.ID)
}

// settle makes a link that came up ready to send. The kernel leaves that to a worker, which
// may take its time; what is sent until then is lost, and when that was the first ARP
// request, the next comes a second later. Asking for the link makes the kernel do it at
// once (since Linux 6.7; before, the start of the container leaves the worker time enough).
func settle(h *netlink.Handle, index int) error {
	_, err := h.LinkByIndex(index)
	return err
}

// enslave makes a host side a port of the bridge: up, with hairpin on, so that a container
// reaches its own published port.
func (n *Network) enslave(host netlink.Link, bridge int) error {
	if host.Attrs().MasterIndex != bridge {
		if err := n.links.LinkSetMasterByIndex(host, bridge); err != nil {
			if errors.Is(err, unix.EXFULL) {
				return fmt.Errorf("bridge %s is full: Linux lets a bridge have 1024 ports: %w", n.layout.bridge, err)
			}
			return fmt.Errorf("join bridge %s: %w", n.layout.bridge, err)
		}
	}
	if err := n.links.LinkSetHairpin(host, true); err != nil {
		return fmt.Errorf("hairpin mode: %w", err)
	}
	if host.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	return wrap(n.links.LinkSetUp(host), "bring it up")
}

func (n *Network) newVeth(a Attachment) (netlink.Link, error) {
	ns, err := os.Open(a.Namespace)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = a.HostInterface, n.uplinkMTU()
	veth := netlink.NewVeth(attrs)
	veth.PeerName = containerInterface
	veth.PeerMTU = uint32(attrs.MTU)
	veth.PeerHardwareAddr = macOf(a.IPv4)
	veth.PeerNamespace = netlink.NsFd(int(ns.Fd()))
	if err := n.links.LinkAdd(veth); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make veth pair: %w", err)
	}
	// The alias is for people: `ip link` shows whose interface it is.
	_ = n.links.LinkSetAlias(veth, a.ID)
	return veth, nil
}

// configure gives the container's side its addresses and routes and returns its index.
func (n *Network) configure(in *netlink.Handle, a Attachment) (index int, err error) {
	eth, err := in.LinkByName(containerInterface)
	if err != nil {
		return 0, fmt.Errorf("interface %s in %s: %w", containerInterface, a.Namespace, err)
	}
	l := n.layout
	if err := in.AddrReplace(eth, address(netip.PrefixFrom(a.IPv4, l.cidr.Bits()))); err != nil {
		return 0, fmt.Errorf("address %s in %s: %w", a.IPv4, a.Namespace, err)
	}
	gateways := []netip.Addr{l.gateway}
	if a.IPv6.IsValid() {
		if err := in.AddrReplace(eth, address(netip.PrefixFrom(a.IPv6, l.cidr6.Bits()))); err != nil {
			return 0, fmt.Errorf("address %s in %s: %w", a.IPv6, a.Namespace, err)
		}
		gateways = append(gateways, l.gateway6)
	}
	if eth.Attrs().Flags&net.FlagUp == 0 {
		if err := in.LinkSetUp(eth); err != nil {
			return 0, fmt.Errorf("bring up %s in %s: %w", containerInterface, a.Namespace, err)
		}
	}
	for _, g := range gateways {
		if err := in.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: g.AsSlice(), Dst: anyNet(g)}); err != nil {
			return 0, fmt.Errorf("default route by %s in %s: %w", g, a.Namespace, err)
		}
	}
	return eth.Attrs().Index, nil
}

// loopback prepares a new namespace, from inside: lo is up, and what its interfaces will
// have for defaults is set before there are any.
func (n *Network) loopback() error {
	in, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer in.Close()
	lo := netlink.NewLinkAttrs()
	lo.Index = 1
	if err := in.LinkSetUp(&netlink.Device{LinkAttrs: lo}); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	if !n.v6 {
		return nil
	}
	return errors.Join(
		setSysctl("ipv6/conf/default/accept_dad", "0"),
		setSysctl("ipv6/conf/default/accept_ra", "0"))
}

// quiet takes the host side down: nothing answers on the container's address any more. The
// pair itself goes when its namespace does, at no cost to us; deleting it would take the
// kernel some 30 ms.
func (n *Network) quiet(name string) error {
	if !strings.HasPrefix(name, n.layout.veth) {
		return nil // none, or not ours
	}
	link, err := n.links.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = n.links.LinkSetDown(link)
	}
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return wrap(err, "take down interface %s", name)
}

// linkLocalOf is the IPv6 link-local address that goes with a MAC (RFC 4291, appendix A).
func linkLocalOf(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func anyNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: make(net.IP, a.BitLen()/8), Mask: make(net.IPMask, a.BitLen()/8)}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones)
}
