package network

import (
	"fmt"
	"net/netip"
)

// pool gives out the addresses of the bridge's network. It remembers nothing between
// starts: which addresses are in use follows from the attachments.
//
// It goes on from the address given last rather than from the lowest free one: the
// address of a container that is gone may be answered for, remembered or connected to
// for some time yet, so it is the last to come up again.
type pool struct {
	cidr netip.Prefix
	used map[uint32]bool // by offset; the network, gateway and broadcast address are never given
	last uint32
}

func newPool(cidr netip.Prefix) *pool {
	return &pool{cidr: cidr, used: map[uint32]bool{}, last: 1}
}

// size is the number of addresses that can be given out: at offsets 2 … size+1.
func (p *pool) size() uint32 { return uint32(1)<<(32-p.cidr.Bits()) - 3 }

// take marks an address as in use, and reports whether it was free and is one of ours.
func (p *pool) take(a netip.Addr) bool {
	if !a.Is4() || !p.cidr.Contains(a) {
		return false
	}
	o := offsetIn(p.cidr, a)
	if o < 2 || o > p.size()+1 || p.used[o] {
		return false
	}
	p.used[o] = true
	p.last = max(p.last, o)
	return true
}

// next gives out the next free address after the one given last.
func (p *pool) next() (netip.Addr, error) {
	for i := range p.size() {
		o := 2 + (p.last-1+i)%p.size()
		if !p.used[o] {
			p.used[o], p.last = true, o
			return addrAt(p.cidr, o), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address is free in %s, %d are in use: stop some tasks or choose a larger network (ECSD_BRIDGE_CIDR)", p.cidr, len(p.used))
}

// release makes an address free again. One that is not in use stays so.
func (p *pool) release(a netip.Addr) {
	if a.Is4() && p.cidr.Contains(a) {
		delete(p.used, offsetIn(p.cidr, a))
	}
}
