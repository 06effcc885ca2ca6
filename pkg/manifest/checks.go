package manifest

import (
	"fmt"
	"slices"

	"ecsd/pkg/spec"
)

// memo remembers how services fit their definitions, which costs more than looking at
// all files that did not change. An entry holds for as long as both are the same objects.
type memo struct {
	fitting map[*Service]fit
}

type fit struct {
	td   *spec.TaskDefinition
	errs spec.Errors
}

func newMemo() *memo { return &memo{fitting: map[*Service]fit{}} }

// fits checks what a service says about its definition.
func (m *memo) fits(s *Service, td *spec.TaskDefinition) spec.Errors {
	if f, ok := m.fitting[s]; ok && f.td == td {
		return f.errs
	}
	errs := spec.ValidateService(s.Service, td)
	m.fitting[s] = fit{td, errs}
	return errs
}

// keep forgets the services that no longer count.
func (m *memo) keep(good map[string]*content) {
	fitting := make(map[*Service]fit, len(m.fitting))
	for _, c := range good {
		for i := range c.services {
			if f, ok := m.fitting[&c.services[i]]; ok {
				fitting[&c.services[i]] = f
			}
		}
	}
	m.fitting = fitting
}

// hostPort is a port of the host that a definition asks for by number.
type hostPort struct {
	family   string
	number   int
	protocol string
}

// hostPorts lists them, each once.
func hostPorts(td spec.TaskDefinition) (ports []hostPort) {
	for _, b := range spec.HostPorts(td) {
		if p := (hostPort{td.Family, b.HostPort, b.Protocol}); !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports
}

// portWarnings finds host ports that several definitions claim, by file. It is no error:
// on ECS, too, such tasks are placed one at a time, and a roll may want just that.
func portWarnings(good map[string]*content, names []string) map[string][]string {
	first := map[hostPort]string{} // by port without family: the family
	warnings := map[string][]string{}
	for _, name := range names {
		for _, p := range good[name].ports {
			key := hostPort{number: p.number, protocol: p.protocol}
			if other, taken := first[key]; taken {
				warnings[name] = append(warnings[name], fmt.Sprintf(
					"TaskDefinition %s: host port %d/%s is claimed by %s too: only one of them can run at a time", p.family, p.number, p.protocol, other))
			} else {
				first[key] = p.family
			}
		}
	}
	return warnings
}
