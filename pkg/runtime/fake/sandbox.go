package fake

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// CreateSandbox makes a task's networks and publishes its ports.
func (r *Runtime) CreateSandbox(ctx context.Context, t spec.Task) error {
	if err := r.enter(ctx, "CreateSandbox", t.ID, ""); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	tk := r.tasks[t.ID]
	if tk != nil && tk.sandbox != nil && tk.sandbox.Ready {
		return r.left("CreateSandbox")
	}
	sandbox, err := r.network(t)
	if err != nil {
		return err
	}
	if tk == nil {
		tk = &task{id: t.ID, containers: map[string]*container{}}
		r.tasks[t.ID] = tk
	}
	tk.sandbox = sandbox
	tk.identity = runtime.Identity{
		Cluster: t.ClusterName(), Family: t.Family, Service: t.Service, Source: t.Source,
		Revision: t.Revision, Slot: t.Slot,
	}
	return r.left("CreateSandbox")
}

// network lays out the sandbox of a task. r.mu is held.
func (r *Runtime) network(t spec.Task) (*runtime.Sandbox, error) {
	mode := t.Definition.NetworkMode
	if mode == "" {
		mode = "bridge"
	}
	sb := &runtime.Sandbox{NetworkMode: mode, Networks: map[string]runtime.Network{}, Ready: true}
	taken := r.ports(t.ID)
	switch mode {
	case "awsvpc":
		sb.Networks[""] = runtime.Network{Namespace: "/run/ecsd/netns/" + t.ID, IPv4: r.address()}
	case "bridge":
		for i, c := range t.Definition.ContainerDefinitions {
			network := runtime.Network{Namespace: fmt.Sprintf("/run/ecsd/netns/%s-%d", t.ID, i), IPv4: r.address()}
			for _, m := range c.PortMappings {
				if m.ContainerPort == 0 {
					continue // a range
				}
				bound, err := publish(taken, m)
				if err != nil {
					return nil, fmt.Errorf("create sandbox of task %s: container %s: %w", t.ID, c.Name, err)
				}
				network.Ports = append(network.Ports, bound)
			}
			sb.Networks[c.Name] = network
		}
	}
	return sb, nil
}

// publish finds the host port of one mapping, and takes it.
func publish(taken map[string]string, m spec.PortMapping) (spec.NetworkBinding, error) {
	protocol := m.Protocol
	if protocol == "" {
		protocol = "tcp"
	}
	port := m.HostPort
	if port == 0 {
		for port = 32768; taken[key(port, protocol)] != ""; port++ {
		}
	}
	if by := taken[key(port, protocol)]; by != "" {
		return spec.NetworkBinding{}, fmt.Errorf("host port %d/%s is taken by task %s: %w", port, protocol, by, errdefs.ErrUnavailable)
	}
	taken[key(port, protocol)] = "this"
	return spec.NetworkBinding{BindIP: "0.0.0.0", ContainerPort: m.ContainerPort, HostPort: port, Protocol: protocol}, nil
}

func key(port int, protocol string) string { return strconv.Itoa(port) + "/" + protocol }

// ports lists the published ports of all tasks but one, and whose they are. r.mu is held.
func (r *Runtime) ports(but string) map[string]string {
	taken := map[string]string{}
	for id, t := range r.tasks {
		if id == but || t.sandbox == nil {
			continue
		}
		for _, n := range t.sandbox.Networks {
			for _, p := range n.Ports {
				taken[key(p.HostPort, strings.ToLower(p.Protocol))] = id
			}
		}
	}
	return taken
}

// RemoveSandbox frees what CreateSandbox made.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	if err := r.enter(ctx, "RemoveSandbox", id, ""); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tasks[id]
	if t == nil {
		return r.left("RemoveSandbox")
	}
	if len(t.containers) > 0 {
		return fmt.Errorf("remove sandbox of task %s: %d of its containers are still there; remove them first: %w",
			id, len(t.containers), errdefs.ErrFailedPrecondition)
	}
	t.sandbox = nil
	r.forgetEmpty(t)
	return r.left("RemoveSandbox")
}
