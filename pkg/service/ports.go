package service

import (
	"cmp"
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

const (
	// publishTimeout bounds one call of the Balancer.
	publishTimeout = 5 * time.Second
	// publishPatience is how long tasks are not stopped because the steady ports could not
	// be led away from them. Requests that fail are the lesser harm than a task that can
	// never be replaced.
	publishPatience = 10 * time.Second
)

// ports is what is known of a service's steady ports.
type ports struct {
	applied []runtime.ServicePort // what the Balancer took last
	failing spec.Time             // since when it takes nothing; zero: it does
}

// backend is one address of a task behind one steady port.
type backend struct {
	Port     int            `json:"port"`
	Protocol string         `json:"protocol"`
	Addr     netip.AddrPort `json:"addr"`
}

// publish leads the service's steady ports to the tasks that are to serve, and to those
// that did before the restart and of which nothing has been reported yet. It reports
// whether tasks may be stopped now: whether the ports no longer lead to others.
func (l *loop) publish(ctx context.Context, s *service, serve []string) (settled bool) {
	if l.c.Balancer == nil {
		return true
	}
	now := l.c.Now()
	for id, t := range s.tasks {
		m := s.rec.Tasks[id]
		switch {
		case !t.seen && !t.asked() && !s.rec.Removed && m.Since.Boot == now.Boot:
		case slices.Contains(serve, id):
			m.Behind = s.backends(t)
		default:
			m.Behind = nil
		}
		s.rec.Tasks[id] = m
	}
	want := s.servicePorts()
	if reflect.DeepEqual(want, s.ports.applied) || s.ports.applied == nil && !anyBackend(want) {
		s.ports.failing = spec.Time{}
		return true
	}
	return l.setPorts(ctx, s, want)
}

// unpublish closes the service's steady ports, and reports whether it could.
func (l *loop) unpublish(ctx context.Context, s *service) bool {
	if l.c.Balancer == nil || s.ports.applied == nil {
		return true
	}
	return l.setPorts(ctx, s, nil)
}

func (l *loop) setPorts(ctx context.Context, s *service, want []runtime.ServicePort) bool {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	now := l.c.Now()
	if err := l.c.Balancer.SetServicePorts(ctx, s.name, want); err != nil {
		if s.ports.failing.IsZero() {
			s.ports.failing = now
		}
		l.c.Log.Error("a service's steady ports cannot be set; it is tried again", "service", s.name, "err", err)
		s.wakeAfter(now, retryAfter)
		failing, same := now.Since(s.ports.failing)
		return !same || failing >= publishPatience
	}
	s.ports.applied, s.ports.failing = want, spec.Time{}
	return true
}

// steadyPorts lists the steady ports that the service asks for, by the name of the port
// mapping that they lead to.
func (s *service) steadyPorts() map[string][]int {
	c := s.rec.Service.ServiceConnectConfiguration
	if c == nil || c.Enabled == nil || !*c.Enabled || s.rec.Removed {
		return nil
	}
	out := map[string][]int{}
	for _, p := range c.Services {
		for _, a := range p.ClientAliases {
			out[p.PortName] = append(out[p.PortName], a.Port)
		}
	}
	return out
}

// backends is where the steady ports are to lead to in a task: for each port mapping that
// the service names, the container's own addresses and port. A task on the host's network
// has no address of its own: there it is the loopback one, and a steady port of the same
// number needs nothing done.
func (s *service) backends(t *task) []backend {
	var out []backend
	for name, ports := range s.steadyPorts() {
		for _, c := range t.want.Definition.ContainerDefinitions {
			i := slices.IndexFunc(c.PortMappings, func(m spec.PortMapping) bool { return m.Name == name })
			if i < 0 {
				continue
			}
			m := c.PortMappings[i]
			host := t.want.Definition.NetworkMode == "host"
			for _, port := range ports {
				if host && port == m.ContainerPort {
					continue
				}
				for _, a := range addresses(t.status, c.Name, host) {
					out = append(out, backend{port, protocol(m), netip.AddrPortFrom(a, uint16(m.ContainerPort))})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b backend) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Protocol, b.Protocol), a.Addr.Compare(b.Addr))
	})
	return out
}

// addresses lists where a container can be reached.
func addresses(st spec.TaskStatus, container string, host bool) []netip.Addr {
	if host {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	var out []netip.Addr
	for _, c := range st.Containers {
		if c.Name != container {
			continue
		}
		for _, n := range c.NetworkInterfaces {
			for _, text := range []string{n.PrivateIPv4Address, n.IPv6Address} {
				if a, err := netip.ParseAddr(text); err == nil {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

func protocol(m spec.PortMapping) string {
	if m.Protocol == "" {
		return "tcp"
	}
	return m.Protocol
}

// servicePorts is the complete list of the service's steady ports, those too that nobody
// is behind now.
func (s *service) servicePorts() []runtime.ServicePort {
	type key struct {
		port     int
		protocol string
	}
	byPort := map[key][]netip.AddrPort{}
	for name, ports := range s.steadyPorts() {
		if p, ok := s.protocolOf(name); ok {
			for _, port := range ports {
				byPort[key{port, p}] = nil
			}
		}
	}
	for _, m := range s.rec.Tasks {
		for _, b := range m.Behind {
			k := key{b.Port, b.Protocol}
			byPort[k] = append(byPort[k], b.Addr)
		}
	}
	var out []runtime.ServicePort
	for k, addrs := range byPort {
		slices.SortFunc(addrs, netip.AddrPort.Compare)
		out = append(out, runtime.ServicePort{Port: k.port, Protocol: k.protocol, Backends: addrs})
	}
	slices.SortFunc(out, func(a, b runtime.ServicePort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Protocol, b.Protocol))
	})
	return out
}

// protocolOf is the protocol of the port mapping of that name, in the definition asked
// for; false when there is none, or when it is the host's own port already.
func (s *service) protocolOf(name string) (string, bool) {
	def := s.rec.Asked.Definition
	for _, c := range def.ContainerDefinitions {
		for _, m := range c.PortMappings {
			if m.Name == name {
				return protocol(m), def.NetworkMode != "host"
			}
		}
	}
	return "", false
}

func anyBackend(ports []runtime.ServicePort) bool {
	return slices.ContainsFunc(ports, func(p runtime.ServicePort) bool { return len(p.Backends) > 0 })
}
