package network

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
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

// serviceRules is that chain's content: its maps, with their elements, and its rules.
//
//	chain svc_tcp_80 {
//		dnat ip  to numgen random mod 3 map @svc_tcp_80_v4    # 0 : 172.30.0.2 . 8080, …
//		dnat ip6 to numgen random mod 3 map @svc_tcp_80_v6
//		redirect to numgen random mod 1 map @svc_tcp_80_local # programs on the host's own network
//	}
//
// A number that has no element in a map falls through to the next rule.
func serviceRules(t *nftables.Table, l layout, v6 bool, p hostPort, b backends) (sets []filledSet, rules [][]expr.Any) {
	name := serviceChain(p)
	index := func(i int) []byte { return binaryutil.NativeEndian.PutUint32(uint32(i)) }
	numbers := func(suffix string, data nftables.SetDatatype) filledSet {
		return filledSet{set: &nftables.Set{Table: t, Name: name + suffix, IsMap: true, KeyByteOrder: binaryutil.NativeEndian, KeyType: nftables.TypeMark, DataType: data}}
	}
	spread := func(f family, suffix string) {
		s := numbers(suffix, nftables.MustConcatSetType(f.dataType, nftables.TypeInetService))
		n := 0 // backends that this family reaches, in the container's namespace or on the host
		for _, a := range b {
			if to := f.reach(l, a); local(a.Addr()) {
				n++
			} else if to.IsValid() {
				s.elements = append(s.elements, nftables.SetElement{Key: index(n), Val: target(to)})
				n++
			}
		}
		if len(s.elements) > 0 {
			sets = append(sets, s)
			rules = append(rules, join(f.only(), random(n), translate(s.set.Name, reg1), f.dnat()))
		}
	}
	spread(ipv4, "_v4")
	if v6 {
		spread(ipv6, "_v6")
	}
	own := numbers("_local", nftables.TypeInetService)
	for _, a := range b {
		if local(a.Addr()) {
			own.elements = append(own.elements, nftables.SetElement{Key: index(len(own.elements)), Val: []byte{byte(a.Port() >> 8), byte(a.Port())}})
		}
	}
	if n := len(own.elements); n > 0 {
		sets = append(sets, own)
		rules = append(rules, join(random(n), translate(own.set.Name, reg1), exprs{&expr.Redir{RegisterProtoMin: reg1}}))
	}
	return sets, rules
}

func random(n int) exprs {
	return exprs{&expr.Numgen{Register: reg1, Type: unix.NFT_NG_RANDOM, Modulus: uint32(n)}}
}

func serviceElements(p hostPort) []nftables.SetElement {
	return []nftables.SetElement{{Key: p.key(), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: serviceChain(p)}}}
}

// filledSet is a set or map with what is in it.
type filledSet struct {
	set      *nftables.Set
	elements []nftables.SetElement
}
