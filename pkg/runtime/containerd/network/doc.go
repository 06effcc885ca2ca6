// Package network gives containers their network: namespaces, a bridge, addresses,
// published ports and the steady ports of services, in process, over netlink.
package network
