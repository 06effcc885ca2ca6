package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestMatrix connects everybody with everybody. It is the table of docs/networking.md.
func TestMatrix(t *testing.T) {
	for _, filtered := range []string{"0", "1"} {
		t.Run("br_netfilter="+filtered, func(t *testing.T) {
			needHost(t)
			for _, f := range []string{"bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"} {
				if err := setSysctl(f, filtered); err != nil {
					t.Skip("SKIPPED: no br_netfilter here: ", err)
				}
			}
			w := newWorld(t)
			w.run(t)
			for _, proto := range []string{"tcp", "udp"} {
				t.Run(proto, func(t *testing.T) { testMatrix(t, w, proto) })
			}
		})
	}
}

func testMatrix(t *testing.T, w *world, proto string) {
	a := w.attach(t, "a-"+proto, PortRequest{ContainerPort: 80, HostPort: 8080, Protocol: proto})
	b := w.attach(t, "b-"+proto)
	serve(t, a.Namespace, "a", ":80")
	serve(t, a.Namespace, "hidden", ":81")
	serve(t, b.Namespace, "b", ":80")
	serve(t, w.outside, "outside", ":8080")
	// What runs on the host for itself alone.
	serve(t, "", "private", "127.0.0.1:7000")
	routeToLoopback(t, b.Namespace, w.layout.gateway)

	gone := "dropped"
	refused := "refused"
	for _, f := range []struct {
		name                                   string
		host, bridge, loop, out, a, b, gateway netip.Addr
	}{
		{"4", hostAddr4, w.layout.gateway, netip.MustParseAddr("127.0.0.1"), outAddr4, a.IPv4, b.IPv4, w.layout.gateway},
		{"6", hostAddr6, w.layout.gateway6, netip.IPv6Loopback(), outAddr6, a.IPv6, b.IPv6, w.layout.gateway6},
	} {
		loop := "a " + f.gateway.String()
		if f.name == "6" {
			loop = "a " + w.layout.gateway.String() // the proxy goes by IPv4
			if proto == "udp" {
				loop = refused // not published on ::1
			}
		}
		for _, c := range []struct {
			name, from string
			to         netip.Addr
			port       int
			want       string
		}{
			{"outside to the host's address", w.outside, f.host, 8080, "a " + f.out.String()},
			{"host to its own address", "", f.host, 8080, "a " + f.host.String()},
			{"host to the bridge's address", "", f.bridge, 8080, "a " + f.bridge.String()},
			{"host to loopback", "", f.loop, 8080, loop},
			{"another container to the host's address", b.Namespace, f.host, 8080, "a " + f.gateway.String()},
			{"another container to the bridge's address", b.Namespace, f.bridge, 8080, "a " + f.gateway.String()},
			{"the container itself to the host's address", a.Namespace, f.host, 8080, "a " + f.gateway.String()},
			{"the container itself to the bridge's address", a.Namespace, f.bridge, 8080, "a " + f.gateway.String()},
			{"container to outside, at a port that is published here", a.Namespace, f.out, 8080, "outside " + f.host.String()},
			{"container to container", b.Namespace, f.a, 80, "a " + f.b.String()},
			{"container to container, unpublished", b.Namespace, f.a, 81, "hidden " + f.b.String()},
			{"host to container", "", f.a, 81, "hidden " + f.gateway.String()},
			{"outside to an unpublished port of the host", w.outside, f.host, 81, refused},
			{"outside, routed straight to the container", w.outside, f.a, 81, gone},
			{"outside, routed straight to the published port", w.outside, f.a, 80, gone},
		} {
			t.Run(c.name+" v"+f.name, func(t *testing.T) {
				t.Parallel() // those that are dropped take their time
				expect(t, c.from, proto, net.JoinHostPort(c.to.String(), strconv.Itoa(c.port)), c.want)
			})
		}
	}
	t.Run("guard: container to what listens on the host's 127.0.0.1", func(t *testing.T) {
		t.Parallel()
		expect(t, b.Namespace, proto, "127.0.0.1:7000", gone)
	})
}

// routeToLoopback makes a container send what is for 127.0.0.1 to the host, as one with
// NET_ADMIN could.
func routeToLoopback(t *testing.T, ns string, gateway netip.Addr) {
	t.Helper()
	f := must(os.Open(ns))(t)
	defer func() { _ = f.Close() }()
	h := must(netlink.NewHandleAt(netns.NsHandle(int(f.Fd())), unix.NETLINK_ROUTE))(t)
	defer h.Close()
	check(t, within(ns, func() error {
		return setSysctl("ipv4/conf/eth0/route_localnet", "1")
	}))
	eth := must(h.LinkByName(containerInterface))(t)
	lo := must(h.LinkByName("lo"))(t)
	check(t, h.AddrDel(lo, address(netip.MustParsePrefix("127.0.0.1/8"))))
	check(t, h.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway.AsSlice(),
		Dst: &net.IPNet{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}}))
	routes := must(h.RouteGet(net.IPv4(127, 0, 0, 1)))(t)
	if got := fmt.Sprint(routes[0].Gw); got != gateway.String() {
		t.Fatalf("127.0.0.1 is reached by %s", got)
	}
}
