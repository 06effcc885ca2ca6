package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"ecsd/pkg/runtime"
)

// servicePort is one steady port of a service with its backends.
type servicePort struct {
	hostPort
	to backends
}

// SetServicePorts makes each steady port of the host lead to its backends, a new
// connection to a random one of them, from outside, from the host and from containers.
// The list is complete: ports of the service that it leaves out are closed. All changes
// take effect at once; established TCP connections go on, UDP clients of a backend that
// left move to another. A port without backends refuses. Set already, nothing happens.
//
// A backend with an address of the bridge is reached by IPv6 as well. One with a loopback
// address is a program on the host's own network; when it listens on the steady port
// itself there is nothing to publish, and the port is left to it.
//
// A port that somebody else has is a *PortInUseError, and then nothing has changed.
func (n *Network) SetServicePorts(ctx context.Context, service string, ports []runtime.ServicePort) (err error) {
	defer n.metrics.observe("set_service_ports", time.Now(), &err)
	if err := ctx.Err(); err != nil {
		return err
	}
	want, err := servicePorts(ports)
	if err != nil {
		return fmt.Errorf("service %s: %w", service, err)
	}
	n.mu.Lock()
	have := n.services[service]
	n.mu.Unlock()
	return n.changeService(service, have, want)
}

// servicePorts reads what SetServicePorts is given.
func servicePorts(ports []runtime.ServicePort) ([]servicePort, error) {
	var out []servicePort
	for _, p := range ports {
		s := servicePort{hostPort: hostPort{p.Protocol, uint16(p.Port)}, to: backends{}}
		if s.proto == "" {
			s.proto = "tcp"
		}
		if s.proto != "tcp" && s.proto != "udp" {
			return nil, fmt.Errorf("port %d: protocol %q: want tcp or udp", p.Port, p.Protocol)
		}
		if p.Port < 1 || p.Port > 65535 {
			return nil, fmt.Errorf("port %d: want 1 to 65535", p.Port)
		}
		if slices.ContainsFunc(out, func(o servicePort) bool { return o.hostPort == s.hostPort }) {
			return nil, fmt.Errorf("port %s is given twice", s.hostPort)
		}
		itself := false
		for _, b := range p.Backends {
			if !b.IsValid() || b.Port() == 0 {
				return nil, fmt.Errorf("port %s: backend %s: want ADDRESS:PORT", s.hostPort, b)
			}
			itself = itself || local(b.Addr()) && b.Port() == s.port
			s.to = append(s.to, netip.AddrPortFrom(b.Addr().Unmap(), b.Port()))
		}
		if itself {
			continue
		}
		slices.SortFunc(s.to, netip.AddrPort.Compare)
		s.to = slices.Compact(s.to)
		out = append(out, s)
	}
	return out, nil
}

// changeService leads a service from the ports it has to those it wants.
func (n *Network) changeService(service string, have, want []servicePort) error {
	old := map[hostPort]backends{}
	for _, p := range have {
		old[p.hostPort] = p.to
	}
	changes := map[hostPort]backends{}
	var fresh []hostPort
	for _, p := range want {
		to, is := old[p.hostPort]
		if !is {
			fresh = append(fresh, p.hostPort)
		}
		if !is || !slices.Equal(to, p.to) {
			changes[p.hostPort] = p.to
		}
		delete(old, p.hostPort)
	}
	for p := range old {
		changes[p] = nil
	}
	if len(changes) == 0 {
		return nil
	}
	if err := n.holdForService(service, fresh, changes); err != nil {
		return fmt.Errorf("service %s: %w", service, err)
	}
	if err := n.table.setServices(maps.Clone(changes)); err != nil {
		n.letGo(fresh)
		return fmt.Errorf("service %s: %w", service, err)
	}
	for p, to := range changes {
		if to != nil {
			_ = n.sockets.reserve(p, n.proxyTargets(to)...) // held already: only where it leads changes
		}
	}
	n.udpChanged(slices.Collect(maps.Keys(changes))...)
	n.letGo(slices.Collect(maps.Keys(old)))
	n.mu.Lock()
	if len(want) == 0 {
		delete(n.services, service)
	} else {
		n.services[service] = want
	}
	n.mu.Unlock()
	return n.saveServices()
}

// holdForService holds and reserves the ports that are new to a service, all or none.
func (n *Network) holdForService(service string, fresh []hostPort, to map[hostPort]backends) error {
	n.mu.Lock()
	err := n.book.hold(fresh, "service "+service)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	for _, p := range fresh {
		if err := n.sockets.reserve(p, n.proxyTargets(to[p])...); err != nil {
			n.letGo(fresh)
			return err
		}
	}
	return nil
}

func (n *Network) proxyTargets(to backends) []proxyTarget {
	var out []proxyTarget
	for _, b := range to {
		t := proxyTarget{b}
		if six := ipv6.reach(n.layout, b); n.v6 && b.Addr().Is4() && six.IsValid() {
			t = append(t, six)
		}
		out = append(out, t)
	}
	return out
}

// dropBackend takes an attachment that goes away out of the services that still lead to
// it. They should have been told before; this is for the task that died.
func (n *Network) dropBackend(a Attachment) error {
	gone := func(b netip.AddrPort) bool { return b.Addr() == a.IPv4 || a.IPv6.IsValid() && b.Addr() == a.IPv6 }
	if !a.IPv4.IsValid() {
		return nil
	}
	type change struct{ have, want []servicePort }
	changes := map[string]change{}
	n.mu.Lock()
	for service, have := range n.services {
		if want, dropped := without(have, gone); dropped {
			changes[service] = change{have, want}
		}
	}
	n.mu.Unlock()
	var err error
	for service, c := range changes {
		err = errors.Join(err, n.changeService(service, c.have, c.want))
	}
	return err
}

// without leaves the backends out that gone says, and reports whether there were any.
func without(ports []servicePort, gone func(netip.AddrPort) bool) (out []servicePort, dropped bool) {
	for _, p := range ports {
		to := slices.DeleteFunc(slices.Clone(p.to), gone)
		dropped = dropped || len(to) < len(p.to)
		out = append(out, servicePort{p.hostPort, to})
	}
	return out, dropped
}

// Steady ports must not be interrupted by a restart of the agent, and the services are
// told of anew only some time after it. So they are kept in a file on tmpfs.

const servicesVersion = 1

type servicesFile struct {
	Version  int                            `json:"version"`
	Services map[string][]servicePortOnDisk `json:"services"`
}

type servicePortOnDisk struct {
	Port     uint16           `json:"port"`
	Protocol string           `json:"protocol"`
	Backends []netip.AddrPort `json:"backends"`
}

func (n *Network) saveServices() error {
	f := servicesFile{Version: servicesVersion, Services: map[string][]servicePortOnDisk{}}
	n.mu.Lock()
	for name, ports := range n.services {
		for _, p := range ports {
			f.Services[name] = append(f.Services[name], servicePortOnDisk{p.port, p.proto, p.to})
		}
	}
	n.mu.Unlock()
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return wrap(renameio.WriteFile(n.layout.services, b, 0o600), "steady ports of services")
}

// loadServices takes up the steady ports that an earlier life of the agent published, as
// far as their backends are still there, and adds them to the table's contents.
func (n *Network) loadServices(want contents) error {
	b, err := os.ReadFile(n.layout.services)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("steady ports of services: %w", err)
	}
	var f servicesFile
	if err := json.Unmarshal(b, &f); err != nil {
		n.log.Warn("steady ports of services are unreadable; they come back as soon as the services are looked at", "file", n.layout.services, "error", err)
		return nil
	}
	if f.Version > servicesVersion {
		return fmt.Errorf("%s has version %d, this ecsd knows up to %d: use the newer ecsd, or remove the file", n.layout.services, f.Version, servicesVersion)
	}
	alive := map[netip.Addr]bool{}
	for _, a := range n.attached {
		alive[a.IPv4], alive[a.IPv6] = true, true
	}
	gone := func(b netip.AddrPort) bool { return !local(b.Addr()) && !alive[b.Addr()] }
	for name, saved := range f.Services {
		var ports []servicePort
		for _, p := range saved {
			ports = append(ports, servicePort{hostPort{p.Protocol, p.Port}, p.Backends})
		}
		ports, _ = without(ports, gone)
		ports = slices.DeleteFunc(ports, func(p servicePort) bool { return len(p.to) == 0 })
		for _, p := range ports {
			if err := n.book.hold([]hostPort{p.hostPort}, "service "+name); err != nil {
				n.log.Error("a steady port could not be taken over", "service", name, "error", err)
				continue
			}
			if err := n.sockets.reserve(p.hostPort, n.proxyTargets(p.to)...); err != nil {
				n.log.Warn("a steady port was taken on the host while the agent was away; from outside it still leads to the service", "service", name, "error", err)
			}
			want.services[p.hostPort] = p.to
			n.services[name] = append(n.services[name], p)
		}
	}
	return nil
}
