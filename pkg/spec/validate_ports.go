package spec

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	maxPort       = 65535
	maxPortRanges = 100
)

// portSpan is a run of ports of one protocol.
type portSpan struct {
	first, last int
	protocol    string
	path        string // of the port mapping
}

func (s portSpan) overlaps(o portSpan) bool {
	return s.protocol == o.protocol && s.first <= o.last && o.first <= s.last
}

func (s portSpan) String() string {
	if s.first == s.last {
		return fmt.Sprintf("%d/%s", s.first, s.protocol)
	}
	return fmt.Sprintf("%d-%d/%s", s.first, s.last, s.protocol)
}

// ports checks the port mappings of all containers: in bridge mode each container has its
// own ports and they share the host's; in host mode they share all.
func (v *validation) ports(td TaskDefinition) {
	var host []portSpan // taken on the host by the task
	names := map[string]string{}
	for i, c := range td.ContainerDefinitions {
		var own []portSpan // taken in the container
		ranges := 0
		list := at("containerDefinitions", i) + ".portMappings"
		if td.NetworkMode == NetworkNone && len(c.PortMappings) > 0 {
			v.fail(list, "networkMode none has no ports to publish: remove portMappings, or use bridge or host")
			continue
		}
		for j, m := range c.PortMappings {
			p := at(list, j)
			v.portName(m, p, names)
			v.oneOf(p+".protocol", m.Protocol, "tcp", "udp")
			if m.ContainerPortRange != "" {
				ranges++
			}
			span, ok := v.portMapping(td.NetworkMode, m, p)
			if !ok {
				continue
			}
			clash := firstOverlap(own, span)
			if clash != nil {
				v.fail(span.path, "%v is mapped by %s already", span, clash.path)
			}
			own = append(own, span)
			if m.HostPort < 1 || m.HostPort > maxPort {
				continue
			}
			onHost := portSpan{m.HostPort, m.HostPort, m.Protocol, p + ".hostPort"}
			if other := firstOverlap(host, onHost); other != nil && clash == nil {
				v.fail(onHost.path, "%v of the host is taken by %s already", onHost, other.path)
			}
			host = append(host, onHost)
		}
		if ranges > maxPortRanges {
			v.fail(list, "has %d port ranges: at most %d are allowed", ranges, maxPortRanges)
		}
	}
}

func firstOverlap(taken []portSpan, s portSpan) *portSpan {
	for i := range taken {
		if taken[i].overlaps(s) {
			return &taken[i]
		}
	}
	return nil
}

func (v *validation) portName(m PortMapping, p string, names map[string]string) {
	switch first, dup := names[m.Name]; {
	case m.Name == "":
		if m.AppProtocol != "" {
			v.fail(p+".appProtocol", "needs a name: it belongs to a named port")
		}
	case !validPortName(m.Name):
		v.fail(p+".name", "%s is not the name of a port: at most 64 of a-z, 0-9, _ and -, not beginning with -", shown(m.Name))
	case dup:
		v.fail(p+".name", "%s is the name of %s too: names of ports are unique in a task", shown(m.Name), first)
	default:
		names[m.Name] = p
	}
	v.oneOf(p+".appProtocol", m.AppProtocol, "http", "http2", "grpc")
}

// portMapping checks one mapping and gives the container ports it takes.
func (v *validation) portMapping(mode string, m PortMapping, p string) (portSpan, bool) {
	if m.ContainerPortRange != "" {
		return v.portRange(mode, m, p)
	}
	span := portSpan{m.ContainerPort, m.ContainerPort, m.Protocol, p + ".containerPort"}
	if m.ContainerPort < 1 || m.ContainerPort > maxPort {
		v.fail(span.path, "must be between 1 and %d, not %d", maxPort, m.ContainerPort)
		return span, false
	}
	switch {
	case m.HostPort < 0 || m.HostPort > maxPort:
		v.fail(p+".hostPort", "must be between 0 (any free port) and %d, not %d", maxPort, m.HostPort)
		return span, false
	case mode == NetworkHost && m.HostPort != m.ContainerPort:
		v.fail(p+".hostPort", "is %d: with networkMode host it must be left out, or be the container port, which is %d", m.HostPort, m.ContainerPort)
		return span, false
	}
	return span, true
}

func (v *validation) portRange(mode string, m PortMapping, p string) (portSpan, bool) {
	rp := p + ".containerPortRange"
	switch {
	case mode == NetworkHost:
		v.fail(rp, "ranges are for networkMode bridge: in host mode every port is a host port anyway")
		return portSpan{}, false
	case m.ContainerPort != 0:
		v.fail(rp, "containerPort and containerPortRange exclude each other")
		return portSpan{}, false
	case m.HostPort != 0:
		v.fail(p+".hostPort", "a range gets its host ports by itself: remove hostPort")
		return portSpan{}, false
	}
	from, to, ok := strings.Cut(m.ContainerPortRange, "-")
	first, errFirst := strconv.Atoi(from)
	last, errLast := strconv.Atoi(to)
	if !ok || errFirst != nil || errLast != nil || !plainDecimal(from) || !plainDecimal(to) ||
		first < 1 || last > maxPort || first >= last {
		v.fail(rp, "%s is not a range: write first-last, with 1 <= first < last <= %d", shown(m.ContainerPortRange), maxPort)
		return portSpan{}, false
	}
	return portSpan{first, last, m.Protocol, rp}, true
}
