package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
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

// Request asks for a network namespace.
type Request struct {
	// ID is unique among what is attached and fit for a file name: "<task>-<index>", or
	// "<task>" for a namespace of a whole task.
	ID string
	// Loopback asks for a namespace with nothing but lo (network mode none). Ports are
	// ignored then, as on ECS.
	Loopback bool
	Ports    []PortRequest
}

// Attachment is a namespace that is attached, with all that it takes to know it again
// after a restart. It is a value and goes into sandbox.json.
type Attachment struct {
	ID            string     `json:"id"`
	Namespace     string     `json:"namespace"`               // path of the pin
	HostInterface string     `json:"hostInterface,omitempty"` // host side of the veth pair; "" for Loopback
	IPv4          netip.Addr `json:"ipv4,omitzero"`
	IPv6          netip.Addr `json:"ipv6,omitzero"` // zero where the host has no IPv6
	// Ports has one binding for each port request, in their order.
	Ports []spec.NetworkBinding `json:"ports,omitempty"`
}

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

// Attach gives a namespace its place in the network and returns what it was given. Called
// again for the same ID it compares, repairs what is missing, and returns the same.
// previous, if not nil, is what an earlier call returned, perhaps in an earlier life of
// the agent: its address and ports are kept as far as they still answer the request.
//
// A port that somebody else has is a *PortInUseError. When Attach fails it leaves nothing
// behind of what this call made.
func (n *Network) Attach(ctx context.Context, r Request, previous *Attachment) (a Attachment, err error) {
	defer n.metrics.observe("attach", time.Now(), &err)
	if r.ID == "" || r.ID != fileName(r.ID) {
		return Attachment{}, fmt.Errorf("attachment id %q is not fit for a file name", r.ID)
	}
	spans, err := parseRequests(r.Ports)
	if err != nil {
		return Attachment{}, fmt.Errorf("attachment %s: %w", r.ID, err)
	}
	if err := ctx.Err(); err != nil {
		return Attachment{}, err
	}
	a, known, err := n.assign(r, spans, previous)
	if err != nil {
		return Attachment{}, err
	}
	if err := n.establish(a); err != nil {
		if !known {
			err = errors.Join(err, n.detach(a))
		}
		return Attachment{}, err
	}
	return a, nil
}

// assign decides address, ports and names. What an attachment of that ID has already, by
// this agent's knowledge or by previous, it keeps.
func (n *Network) assign(r Request, spans []span, previous *Attachment) (a Attachment, known bool, err error) {
	a = Attachment{ID: r.ID, Namespace: n.layout.pin(r.ID)}
	n.mu.Lock()
	have, known := n.attached[r.ID]
	n.mu.Unlock()
	if !known && previous != nil && previous.ID == r.ID {
		have = *previous
	}
	if r.Loopback {
		n.mu.Lock()
		n.attached[a.ID] = a
		n.mu.Unlock()
		return a, known, nil
	}
	if known && keeps(have.Ports, spans) && have.HostInterface != "" {
		return have, true, nil
	}
	if known { // asked for other ports than it has
		if err := n.withdraw(have); err != nil {
			return Attachment{}, true, err
		}
	}

	n.mu.Lock()
	a.HostInterface = have.HostInterface
	if !strings.HasPrefix(a.HostInterface, n.layout.veth) {
		a.HostInterface = n.layout.vethName()
	}
	switch {
	case known && have.IPv4.IsValid(), n.pool.take(have.IPv4):
		a.IPv4 = have.IPv4
	default:
		a.IPv4, err = n.pool.next()
	}
	if err == nil && n.v6 {
		a.IPv6 = n.layout.ipv6Of(a.IPv4)
	}
	if err == nil {
		// From here on the sweep of Repair knows the interface for ours.
		n.attached[a.ID] = a
		n.metrics.addresses.Set(float64(len(n.pool.used)))
	}
	n.mu.Unlock()
	if err != nil {
		return Attachment{}, known, err
	}

	if keeps(have.Ports, spans) { // ask for the same again, also the dynamic ones
		same := make([]span, len(spans))
		for i, b := range have.Ports {
			same[i], _ = spanOf(b) // keeps has read it
		}
		if a.Ports, err = n.givePorts(a, same); err == nil {
			return n.note(a), known, nil
		}
	}
	if a.Ports, err = n.givePorts(a, spans); err != nil {
		return Attachment{}, known, errors.Join(err, n.detach(a))
	}
	return n.note(a), known, nil
}

func (n *Network) note(a Attachment) Attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.attached[a.ID] = a
	return a
}

// givePorts holds and reserves the ports of an attachment, all or none.
func (n *Network) givePorts(a Attachment, spans []span) (given []spec.NetworkBinding, err error) {
	var held []hostPort
	defer func() {
		if err != nil {
			n.letGo(held)
		}
	}()
	// Static ports first: a dynamic one must not take what a static one asks for.
	order := slices.Clone(spans)
	for _, static := range []bool{true, false} {
		for i := range order {
			if s := &order[i]; (spans[i].host != 0) == static {
				if err := n.giveSpan(a, s); err != nil {
					return nil, err
				}
				held = append(held, s.ports()...)
			}
		}
	}
	for _, s := range order {
		given = append(given, s.binding())
	}
	return given, nil
}

// giveSpan holds and reserves the ports of a span. A dynamic one goes on until it has
// found ports that the host does not use.
func (n *Network) giveSpan(a Attachment, s *span) error {
	dynamic, avoid := s.host == 0, map[hostPort]bool{}
	for {
		n.mu.Lock()
		var err error
		if dynamic {
			s.host, err = n.book.choose(s.proto, s.n, holder(a.ID), avoid)
		} else {
			err = n.book.hold(s.ports(), holder(a.ID))
		}
		n.mu.Unlock()
		if err != nil {
			return err
		}
		one := a
		one.Ports = []spec.NetworkBinding{s.binding()}
		ms, err := mappings(one)
		for _, m := range ms {
			if err == nil {
				err = n.sockets.reserve(m.hostPort, m.proxyTarget())
			}
		}
		if err == nil {
			return nil
		}
		n.letGo(s.ports())
		var used *PortInUseError
		if !dynamic || !errors.As(err, &used) {
			return err
		}
		avoid[hostPort{used.Protocol, used.Port}] = true
	}
}

func (n *Network) letGo(ports []hostPort) {
	n.sockets.release(ports...)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.book.free(ports)
}

// establish makes on the machine what an attachment says, or what is missing of it.
func (n *Network) establish(a Attachment) error {
	if err := newNamespace(a.Namespace, n.loopback); err != nil {
		return fmt.Errorf("attachment %s: %w", a.ID, err)
	}
	if a.HostInterface == "" {
		return nil
	}
	n.mu.Lock()
	bridge := n.bridge
	n.mu.Unlock()
	if err := n.plug(a, bridge); err != nil {
		// The bridge may have been deleted since it was last looked at.
		if _, again := n.repairBridge(); again != nil {
			return err
		}
		if again := n.repairForwarding(); again != nil {
			return again
		}
		n.mu.Lock()
		bridge = n.bridge
		n.mu.Unlock()
		if err := n.plug(a, bridge); err != nil {
			return err
		}
	}
	ms, err := mappings(a)
	if err != nil {
		return err
	}
	if err := n.table.publish(a.ID, ms); err != nil {
		return fmt.Errorf("publish the ports of %s: %w", a.ID, err)
	}
	n.udpChanged(portsOf(ms)...)
	return nil
}

// Detach frees what Attach made: new connections to its ports are refused, nothing
// answers on its address, its namespace dies with its last process. Detached already, or
// never attached, it does nothing.
func (n *Network) Detach(ctx context.Context, a Attachment) (err error) {
	defer n.metrics.observe("detach", time.Now(), &err)
	if err := ctx.Err(); err != nil {
		return err
	}
	return n.detach(a)
}

func (n *Network) detach(a Attachment) error {
	if a.ID == "" || a.ID != fileName(a.ID) {
		return fmt.Errorf("attachment id %q is not fit for a file name", a.ID)
	}
	n.mu.Lock()
	if have, is := n.attached[a.ID]; is {
		a = have
	} else {
		a.Ports, a.IPv4 = nil, netip.Addr{} // not held for it: may be another's by now
	}
	n.mu.Unlock()
	err := errors.Join(
		n.withdraw(a),
		n.dropBackend(a),
		n.quiet(a.HostInterface),
		unpin(n.layout.pin(a.ID)))
	if err != nil {
		return fmt.Errorf("detach %s: %w", a.ID, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attached, a.ID)
	n.pool.release(a.IPv4)
	n.metrics.addresses.Set(float64(len(n.pool.used)))
	return nil
}

// withdraw unpublishes the ports of an attachment and lets go of them.
func (n *Network) withdraw(a Attachment) error {
	ms, err := mappings(a)
	if err != nil {
		return err
	}
	if err := n.table.unpublish(a.ID); err != nil {
		return err
	}
	n.udpChanged(portsOf(ms)...)
	n.letGo(portsOf(ms))
	return nil
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
	n.links.Close()
}

// fileName is id when it can be the name of a file in a directory, "" when not.
func fileName(id string) string {
	if id == "." || id == ".." || len(id) > 255 || strings.ContainsAny(id, "/\x00") {
		return ""
	}
	return id
}

func holder(id string) string { return "container " + id }

func portsOf(ms []mapping) []hostPort {
	out := make([]hostPort, len(ms))
	for i, m := range ms {
		out[i] = m.hostPort
	}
	return out
}

// proxyTarget is where ::1 leads: to IPv4 first, which programs that listen on one
// family only have more often.
func (m mapping) proxyTarget() proxyTarget {
	if !m.to6.IsValid() {
		return proxyTarget{m.to4}
	}
	return proxyTarget{m.to4, m.to6}
}

func firstPort(b spec.NetworkBinding) int {
	if b.HostPort != 0 {
		return b.HostPort
	}
	first, _, _ := parseRange(b.HostPortRange) // 0 when there is none
	return int(first)
}

// Remove takes away all that Networks of this Config ever made on the machine: table,
// bridge, interfaces, pins, and the rules in other firewalls. Sysctls stay. No agent may
// be using it; containers that still run lose their network. Removed already, it does
// nothing. It is for tests and for taking ecsd off a host.
func Remove(ctx context.Context, c Config) error {
	n, err := newNetwork(Config{Bridge: c.Bridge, CIDR: c.CIDR, RunDir: c.RunDir, Log: c.Log})
	if err != nil {
		return err
	}
	defer n.Close()
	err = errors.Join(n.table.remove(), n.unpassForeign(), n.sweepPins(), n.sweepLinks())
	if link, lerr := n.links.LinkByName(n.layout.bridge); lerr == nil && link.Type() == "bridge" {
		err = errors.Join(err, wrap(n.links.LinkDel(link), "remove bridge %s", n.layout.bridge))
	}
	if uerr := unix.Unmount(n.layout.pins, unix.MNT_DETACH); uerr != nil && !errors.Is(uerr, unix.EINVAL) && !errors.Is(uerr, unix.ENOENT) {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", n.layout.pins, uerr))
	}
	return errors.Join(err, os.RemoveAll(n.layout.pins), os.RemoveAll(n.layout.services))
}
