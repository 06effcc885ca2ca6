package network

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// Config says where a Network lives.
type Config struct {
	Bridge        string       // name of the bridge and of the nftables table; default ecsd0
	CIDR          netip.Prefix // IPv4 network of the bridge; default 172.30.0.0/16
	RunDir        string       // namespaces are pinned in RunDir/netns
	DynamicPorts  [2]uint16    // first and last; zero: net.ipv4.ip_local_port_range
	ReservedPorts []uint16     // host ports never given to a container
	Log           *slog.Logger
	Registerer    prometheus.Registerer
}

// PortRequest asks for one container port, or a range of them, on the host.
type PortRequest struct {
	ContainerPort uint16 // 0 when Range is set
	HostPort      uint16 // 0: a dynamic one
	Protocol      string // tcp or udp; "" is tcp
	Range         string // containerPortRange, "first-last"; "" for one port
}

// Request asks for a network namespace.
type Request struct {
	ID       string // unique and fit for a file name: "<task>-<index>" or "<task>"
	Loopback bool   // nothing but lo: network mode none
	Ports    []PortRequest
}

// Attachment is a namespace that is attached, with all that Detach needs.
type Attachment struct {
	ID            string                `json:"id"`
	Namespace     string                `json:"namespace"`               // path of the pin
	HostInterface string                `json:"hostInterface,omitempty"` // host side of the veth pair; "" for Loopback
	IPv4          netip.Addr            `json:"ipv4,omitzero"`
	IPv6          netip.Addr            `json:"ipv6,omitzero"`
	Ports         []spec.NetworkBinding `json:"ports,omitempty"`
}

// Network is one bridge of one agent.
type Network struct{}

var errNotYet = errors.New("network: not implemented yet")

// Open makes the bridge and the table.
func Open(ctx context.Context, c Config, existing []Attachment) (*Network, error) {
	return nil, errNotYet
}

// Attach makes or repairs a namespace.
func (n *Network) Attach(ctx context.Context, r Request, previous *Attachment) (Attachment, error) {
	return Attachment{}, errNotYet
}

// Detach frees what Attach made.
func (n *Network) Detach(ctx context.Context, a Attachment) error { return errNotYet }

// Check reports what is missing of an attachment.
func (n *Network) Check(ctx context.Context, a Attachment) error { return errNotYet }

// Repair puts bridge, sysctls and table back.
func (n *Network) Repair(ctx context.Context) error { return errNotYet }

// SetServicePorts sets a service's steady ports.
func (n *Network) SetServicePorts(ctx context.Context, service string, ports []runtime.ServicePort) error {
	return errNotYet
}

// Run serves until ctx ends.
func (n *Network) Run(ctx context.Context) error { return errNotYet }

// HostPortsInUse lists the published ports.
func (n *Network) HostPortsInUse() []spec.NetworkBinding { return nil }
