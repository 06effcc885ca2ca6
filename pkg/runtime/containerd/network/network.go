package network

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ecsd/pkg/spec"
)

// repairEvery is how often Run compares the machine with what should be.
const repairEvery = 10 * time.Second

// Network is one bridge with all that hangs on it. Its methods may be called from any
// goroutine; calls for the same attachment (or the same service) must not overlap.
type Network struct {
	layout  layout
	v6      bool
	log     *slog.Logger
	metrics *metrics
	links   *netlink.Handle // in the namespace of the agent; serialises by itself
	table   *table
	sockets *sockets
	// udpMoved wakes Run when there is something in movedUDP.
	udpMoved chan struct{}

	mu       sync.Mutex // guards all below; not held during calls to the kernel
	pool     *pool
	book     *book
	attached map[string]Attachment
	services map[string][]servicePort
	movedUDP map[hostPort]bool // whose flows of old are to be deleted
	bridge   int               // index
	legacy   bool              // the operator was told of legacy iptables
}

// Open makes what the attachments share: the bridge with its addresses, the sysctls, and
// the nftables table, which it replaces in one transaction by one that publishes the ports
// of the existing attachments and of the services that were set before the restart.
// Connections that are established go on. Pins of no existing attachment are removed and
// their interfaces taken down. Called when all is in place it changes nothing that
// matters.
//
// Existing are the attachments that the caller knows of; ones whose namespace is gone
// (the machine was rebooted) keep their address and ports until they are attached again
// or detached, but are not published.
//
// Network works in the network and mount namespace of the calling process.
func Open(ctx context.Context, c Config, existing []Attachment) (*Network, error) {
	n, err := newNetwork(c)
	if err != nil {
		return nil, err
	}
	if err := n.open(c, existing); err != nil {
		n.Close()
		return nil, err
	}
	if err := n.Repair(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func newNetwork(c Config) (*Network, error) {
	l, err := newLayout(c)
	if err != nil {
		return nil, err
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("bridge", l.bridge)
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	v6 := hostHasIPv6()
	n := &Network{
		layout: l, v6: v6, log: log, links: links,
		metrics:  newMetrics(c.Registerer, l.bridge),
		table:    newTable(l, v6),
		sockets:  newSockets(v6, log),
		pool:     newPool(l.cidr),
		attached: map[string]Attachment{},
		services: map[string][]servicePort{},
		movedUDP: map[hostPort]bool{},
		udpMoved: make(chan struct{}, 1),
		book:     &book{first: c.DynamicPorts[0], last: c.DynamicPorts[1], held: map[hostPort]string{}},
	}
	if n.book.last == 0 {
		if n.book.first, n.book.last, err = ephemeralPorts(); err != nil {
			links.Close()
			return nil, err
		}
	}
	if n.book.first == 0 || n.book.first > n.book.last {
		links.Close()
		return nil, fmt.Errorf("dynamic port range %d-%d: want FIRST-LAST with 1 <= FIRST <= LAST (ECS_DYNAMIC_HOST_PORT_RANGE)", n.book.first, n.book.last)
	}
	for _, p := range c.ReservedPorts {
		n.book.held[hostPort{"tcp", p}] = "ECS_RESERVED_PORTS"
	}
	for _, p := range c.ReservedPortsUDP {
		n.book.held[hostPort{"udp", p}] = "ECS_RESERVED_PORTS_UDP"
	}
	return n, nil
}

// open takes the existing attachments up and writes the table.
func (n *Network) open(c Config, existing []Attachment) error {
	if err := pinDir(n.layout.pins); err != nil {
		return err
	}
	want := contents{published: map[string][]mapping{}, services: map[hostPort]backends{}}
	want.opened4, want.opened6 = n.table.openedNow()
	for _, a := range existing {
		alive := pinned(n.layout.pin(a.ID))
		if a.IPv4.IsValid() && !n.layout.cidr.Contains(a.IPv4) {
			if alive {
				return fmt.Errorf("container %s runs with address %s, which is not in the bridge's network %s: set ECSD_BRIDGE_CIDR back, or stop the tasks first", a.ID, a.IPv4, n.layout.cidr)
			}
			continue
		}
		ms, err := n.adopt(a)
		if err != nil {
			n.log.Error("an attachment could not be taken over whole; stop its task to mend it", "container", a.ID, "error", err)
			continue
		}
		if alive {
			want.published[a.ID] = ms
		}
	}
	if err := n.sweepPins(); err != nil {
		n.log.Warn("left-over network namespaces could not all be removed; trying again at the next start", "error", err)
	}
	if err := n.loadServices(want); err != nil {
		return err
	}
	n.metrics.addresses.Set(float64(len(n.pool.used)))
	return n.table.setContents(want)
}

// adopt books the address and ports of an existing attachment.
func (n *Network) adopt(a Attachment) ([]mapping, error) {
	ms, err := mappings(a)
	if err != nil {
		return nil, err
	}
	if a.IPv4.IsValid() && !n.pool.take(a.IPv4) {
		return nil, fmt.Errorf("its address %s is another's", a.IPv4)
	}
	n.attached[a.ID] = a
	if err := n.book.hold(portsOf(ms), holder(a.ID)); err != nil {
		return nil, err
	}
	for _, m := range ms {
		if err := n.sockets.reserve(m.hostPort, m.proxyTarget()); err != nil {
			n.log.Warn("a published port was taken on the host while the agent was away; from outside it still leads to the container", "container", a.ID, "error", err)
		}
	}
	return ms, nil
}

// Check reports what is missing of an attachment, nil when all is in place: its
// namespace, its interface in the bridge, its ports in the table. It looks from the host;
// what a privileged container did to its own side it does not see. It is cheap enough to
// be called for each of hundreds of attachments in turn.
func (n *Network) Check(ctx context.Context, a Attachment) (err error) {
	defer n.metrics.observe("check", time.Now(), &err)
	if err := ctx.Err(); err != nil {
		return err
	}
	n.mu.Lock()
	have, known := n.attached[a.ID]
	bridge := n.bridge
	n.mu.Unlock()
	switch {
	case !known:
		return fmt.Errorf("container %s is not attached to %s", a.ID, n.layout.bridge)
	case have.IPv4 != a.IPv4 || have.HostInterface != a.HostInterface || !slices.Equal(have.Ports, a.Ports):
		return fmt.Errorf("container %s is attached with other addresses or ports than recorded", a.ID)
	case !pinned(n.layout.pin(a.ID)):
		return fmt.Errorf("network namespace %s of container %s is gone", a.Namespace, a.ID)
	case a.HostInterface == "":
		return nil
	}
	link, err := n.links.LinkByName(a.HostInterface)
	if err != nil {
		return fmt.Errorf("interface %s of container %s: %w", a.HostInterface, a.ID, err)
	}
	if link.Attrs().MasterIndex != bridge || bridge == 0 {
		return fmt.Errorf("interface %s of container %s is not in bridge %s", a.HostInterface, a.ID, n.layout.bridge)
	}
	return n.table.verify()
}

// HostPortsInUse lists the host ports that are published, for containers and for services,
// by protocol and port. Those of containers say the container's port too.
func (n *Network) HostPortsInUse() []spec.NetworkBinding {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []spec.NetworkBinding
	for _, a := range n.attached {
		out = append(out, a.Ports...)
	}
	for _, ports := range n.services {
		for _, p := range ports {
			out = append(out, spec.NetworkBinding{BindIP: "0.0.0.0", HostPort: int(p.port), Protocol: p.proto})
		}
	}
	slices.SortFunc(out, func(a, b spec.NetworkBinding) int {
		if c := strings.Compare(a.Protocol, b.Protocol); c != 0 {
			return c
		}
		return firstPort(a) - firstPort(b)
	})
	return out
}

// Run serves ::1 for the published ports, and repairs every few seconds what others broke,
// until ctx ends; then it closes the sockets that reserve ports and returns nil. What the
// kernel does (all published ports but on ::1) goes on.
func (n *Network) Run(ctx context.Context) error {
	var proxies sync.WaitGroup
	proxies.Go(func() { n.sockets.run(ctx) })
	defer proxies.Wait()
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.udpMoved:
			n.forgetUDP()
			continue
		case <-tick.C:
		}
		if err := n.Repair(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("the network is not as it should be and could not be repaired; trying again", "error", err)
		}
	}
}

// Close gives up the agent's own sockets, and nothing else: containers keep their network.
// It is the last call, after Run has returned. Closed already it does nothing.
func (n *Network) Close() {
	n.sockets.closeAll()
	n.table.close()
	n.links.Close()
}

func firstPort(b spec.NetworkBinding) int {
	if b.HostPort != 0 {
		return b.HostPort
	}
	first, _, _ := parseRange(b.HostPortRange) // 0 when there is none
	return int(first)
}
