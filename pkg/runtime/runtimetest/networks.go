package runtimetest

import (
	"net"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

var networks = []test{
	{name: "BridgeSamePort", bridge: true, run: bridgeSamePort},
	{name: "BridgeStaticPort", bridge: true, run: bridgeStaticPort},
	{name: "HostMode", run: hostMode},
}

// bridgeSamePort: two containers of a task listen on the same port, each on its own
// address, each published on a host port of its own.
func bridgeSamePort(b *bench) {
	one, two := def("one", "http", ":8080", "one"), def("two", "http", ":8080", "two")
	one.PortMappings = []spec.PortMapping{{ContainerPort: 8080}}
	two.PortMappings = []spec.PortMapping{{ContainerPort: 8080}}
	t := b.task("bridge", one, two)
	b.start(t)
	seen := b.look(t)
	for _, name := range []string{"one", "two"} {
		if c := seen.Containers[name]; !c.Live() {
			b.Errorf("container %s is not live: %+v", name, c)
		}
		n := seen.Sandbox.Networks[name]
		if n.Namespace == "" || !n.IPv4.IsValid() {
			b.Errorf("network of %s is %+v, want a namespace and an address", name, n)
		}
		if len(n.Ports) != 1 || n.Ports[0].ContainerPort != 8080 || n.Ports[0].HostPort == 0 || n.Ports[0].Protocol != "tcp" {
			b.Errorf("bindings of %s are %+v, want one of 8080/tcp to a host port", name, n.Ports)
		}
	}
	if x, y := seen.Sandbox.Networks["one"], seen.Sandbox.Networks["two"]; x.IPv4 == y.IPv4 || x.Namespace == y.Namespace ||
		len(x.Ports) == 1 && len(y.Ports) == 1 && x.Ports[0].HostPort == y.Ports[0].HostPort {
		b.Errorf("the containers share what they must not: %+v and %+v", x, y)
	}
	before := seen.Sandbox
	b.ok("create sandbox again", b.r.CreateSandbox(b.ctx, t))
	if after := b.look(t).Sandbox; after.Networks["one"].IPv4 != before.Networks["one"].IPv4 ||
		after.Networks["one"].Ports[0] != before.Networks["one"].Ports[0] {
		b.Errorf("a repeated CreateSandbox moved a container: %+v, was %+v", after, before)
	}
	b.remove(t)
}

// freePort finds a host port nobody listens on.
func (b *bench) freePort() int {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	b.ok("listen", err)
	defer func() { _ = l.Close() }() // nothing was written
	return l.Addr().(*net.TCPAddr).Port
}

// bridgeStaticPort: a host port is published once; who comes second fails, without being
// to blame, and gets it when the first is gone.
func bridgeStaticPort(b *bench) {
	port := b.freePort()
	with := func() spec.ContainerDefinition {
		c := def("web", "http", ":80", "hello")
		c.PortMappings = []spec.PortMapping{{ContainerPort: 80, HostPort: port, Protocol: "tcp"}}
		return c
	}
	first, second := b.task("bridge", with()), b.task("bridge", with())
	b.start(first)
	ports := b.look(first).Sandbox.Networks["web"].Ports
	if len(ports) != 1 || ports[0].HostPort != port || ports[0].ContainerPort != 80 {
		b.Errorf("bindings are %+v, want 80 on host port %d", ports, port)
	}
	err := b.r.CreateSandbox(b.ctx, second)
	if err == nil {
		b.Fatalf("host port %d was given out twice", port)
	}
	if _, final := runtime.Final(err); final {
		b.Errorf("a port that is taken now is said to be the definition's fault for ever: %v", err)
	}
	b.remove(first)
	b.ok("create sandbox once the port is free", b.r.CreateSandbox(b.ctx, second))
	b.remove(second)
}

// hostMode has no network of its own.
func hostMode(b *bench) {
	t := b.task("host", def("app", "pause"))
	b.start(t)
	seen := b.look(t)
	if seen.Sandbox == nil || seen.Sandbox.NetworkMode != "host" || !seen.Sandbox.Ready {
		b.Fatalf("sandbox is %+v, want a ready one of mode host", seen.Sandbox)
	}
	for name, n := range seen.Sandbox.Networks {
		if n.Namespace != "" {
			b.Errorf("network %q has namespace %q, want none of its own", name, n.Namespace)
		}
	}
	b.remove(t)
}
