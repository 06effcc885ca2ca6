package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ecsd/pkg/spec"
)

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
		if !known { // a container that lives keeps its namespace and address
			err = errors.Join(err, n.detach(a))
		}
		return Attachment{}, known, err
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
