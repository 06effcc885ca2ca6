package network

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// backends is who answers a service port, in order. A loopback address stands for a
// program on the host's own network.
type backends []netip.AddrPort

// local reports whether a backend is a program on the host's own network.
func local(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() }

// reach is how a backend is reached in one family; not valid when it is not.
func (f family) reach(l layout, a netip.AddrPort) netip.AddrPort {
	addr := a.Addr().Unmap()
	switch {
	case addr.Is4() == (f.proto == ipv4.proto):
		return netip.AddrPortFrom(addr, a.Port())
	case addr.Is4() && l.cidr.Contains(addr): // each container has both
		return netip.AddrPortFrom(l.ipv6Of(addr), a.Port())
	}
	return netip.AddrPort{}
}

// serviceChain is the chain that spreads the connections for a service port.
func serviceChain(p hostPort) string { return fmt.Sprintf("svc_%s_%d", p.proto, p.port) }

// serviceRule is one rule of such a chain. The comment says what it does, wholly: two rules
// with the same comment are the same.
type serviceRule struct {
	exprs   []expr.Any
	comment string
}

func (r serviceRule) userData() []byte {
	return userdata.AppendString(nil, userdata.TypeComment, r.comment)
}

// serviceRules is the content of a service port's chain:
//
//	chain svc_tcp_80 {
//		meta nfproto ipv4 numgen random mod 3 0 dnat ip to 172.30.0.2:8080
//		meta nfproto ipv4 numgen random mod 2 0 dnat ip to 172.30.0.3:8080
//		meta nfproto ipv4 dnat ip to 172.30.0.4:8080
//		(the same for ipv6)
//	}
//
// One rule for each backend rather than one rule with a map of them: the kernel shows a
// packet all rules of one generation, but looks a map's elements up in the generation of
// that moment, so a packet that meets a change can find the map of old already empty. Under
// load one connection in some thousands was refused that way.
func serviceRules(l layout, v6 bool, b backends) []serviceRule {
	families := []family{ipv4}
	if v6 {
		families = append(families, ipv6)
	}
	var out []serviceRule
	for _, f := range families {
		var reached backends
		for _, a := range b {
			if local(a.Addr()) {
				reached = append(reached, a)
			} else if to := f.reach(l, a); to.IsValid() {
				reached = append(reached, to)
			}
		}
		for i, a := range reached {
			left := len(reached) - i
			out = append(out, serviceRule{
				exprs:   join(f.only(), oneIn(left), f.sendTo(a)),
				comment: fmt.Sprintf("%s %d of %d", a, i+1, len(reached)),
			})
		}
	}
	return out
}

// oneIn matches at random, one packet in n.
func oneIn(n int) exprs {
	if n == 1 {
		return nil
	}
	return exprs{
		&expr.Numgen{Register: reg1, Type: unix.NFT_NG_RANDOM, Modulus: uint32(n)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: make([]byte, 4)},
	}
}

// sendTo translates to one backend.
func (f family) sendTo(a netip.AddrPort) exprs {
	port := []byte{byte(a.Port() >> 8), byte(a.Port())}
	if local(a.Addr()) {
		return exprs{&expr.Immediate{Register: reg1, Data: port}, &expr.Redir{RegisterProtoMin: reg1}}
	}
	return append(exprs{
		&expr.Immediate{Register: reg1, Data: a.Addr().AsSlice()},
		&expr.Immediate{Register: f.regPort, Data: port},
	}, f.dnat()...)
}

func serviceElements(p hostPort) []nftables.SetElement {
	return []nftables.SetElement{{Key: p.key(), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: serviceChain(p)}}}
}

// filledSet is a set or map with what is in it.
type filledSet struct {
	set      *nftables.Set
	elements []nftables.SetElement
}
