package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Names of chains, maps and sets in the table.
const (
	chainGuard       = "guard"
	chainPub         = "pub"
	chainPrerouting  = "prerouting"
	chainOutput      = "output"
	chainPostrouting = "postrouting"
	chainForward     = "forward"
	chainInput       = "input"
	chainOutgoing    = "outgoing"
	mapPub4          = "pub4"
	mapPub6          = "pub6"
	mapServices      = "services"
	setRefused       = "refused"
	setOpened4       = "opened4"
	setOpened6       = "opened6"
)

// Registers. nftables has sixteen of four bytes (from reg32 on); reg1 is the first four
// of them. What is concatenated lies in consecutive ones.
const (
	reg1  = unix.NFT_REG_1
	reg32 = unix.NFT_REG32_00
)

// ipv4 and ipv6 are what differs between the two halves of the rule set.
var (
	ipv4 = family{proto: unix.NFPROTO_IPV4, saddr: 12, daddr: 16, size: 4, regPort: reg32 + 1, dataType: nftables.TypeIPAddr}
	ipv6 = family{proto: unix.NFPROTO_IPV6, saddr: 8, daddr: 24, size: 16, regPort: reg32 + 4, dataType: nftables.TypeIP6Addr}
)

type family struct {
	proto        byte
	saddr, daddr uint32 // offsets of the addresses in the header
	size         uint32 // of an address
	regPort      uint32 // where the port lies after a lookup of address . port
	dataType     nftables.SetDatatype
}

// exprs is a rule under construction: each method appends one match or statement.
type exprs []expr.Any

func join(parts ...exprs) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func compare(key expr.MetaKey, op expr.CmpOp, data []byte) exprs {
	return exprs{
		&expr.Meta{Key: key, Register: reg1},
		&expr.Cmp{Op: op, Register: reg1, Data: data},
	}
}

func (f family) only() exprs { return compare(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{f.proto}) }

func iif(op expr.CmpOp, name string) exprs { return compare(expr.MetaKeyIIFNAME, op, ifname(name)) }
func oif(op expr.CmpOp, name string) exprs { return compare(expr.MetaKeyOIFNAME, op, ifname(name)) }

// inNet matches packets whose address at that offset of the IP header lies in p.
func (f family) inNet(offset uint32, p netip.Prefix) exprs {
	mask := make([]byte, f.size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return exprs{
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: f.size, Mask: mask, Xor: make([]byte, f.size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: p.Masked().Addr().AsSlice()},
	}
}

// toHost matches packets for an address of this machine.
func toHost() exprs {
	return exprs{
		&expr.Fib{Register: reg1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// ct matches connections by a bit of their state or status.
func ct(key expr.CtKey, bit uint32, set bool) exprs {
	op := expr.CmpOpEq
	if set {
		op = expr.CmpOpNeq
	}
	return exprs{
		&expr.Ct{Key: key, Register: reg1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: reg1, Data: make([]byte, 4)},
	}
}

// Bits of the kernel's enum ip_conntrack_status.
const (
	ipsSNAT = 1 << 4
	ipsDNAT = 1 << 5
)

func newConn() exprs        { return ct(expr.CtKeySTATE, expr.CtStateBitNEW, true) }
func dnatted(is bool) exprs { return ct(expr.CtKeySTATUS, ipsDNAT, is) }

// protoAndPort loads the layer 4 protocol and the destination port: the key of our maps.
func protoAndPort() exprs {
	return exprs{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
		&expr.Payload{DestRegister: reg32 + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// dnat sends to the address in the first registers, at the port behind it.
func (f family) dnat() exprs {
	return exprs{&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: reg1, RegProtoMin: f.regPort, Specified: true}}
}

func verdict(k expr.VerdictKind, chain string) exprs {
	return exprs{&expr.Verdict{Kind: k, Chain: chain}}
}

func lookup(set string) exprs { return exprs{&expr.Lookup{SourceRegister: reg1, SetName: set}} }
func translate(set string, dest uint32) exprs {
	return exprs{&expr.Lookup{SourceRegister: reg1, DestRegister: dest, IsDestRegSet: true, SetName: set}}
}

func accept() exprs     { return verdict(expr.VerdictAccept, "") }
func drop() exprs       { return verdict(expr.VerdictDrop, "") }
func masquerade() exprs { return exprs{&expr.Masq{}} }

// chain is a chain with its rules, hooked into the packet path or (hook nil) not.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    [][]expr.Any
}

// chains is the whole static part of the rule set, explained in docs/networking.md. It
// depends on the layout alone; all that changes lies in the maps and sets and in the
// chains of services.
func chains(l layout) []chain {
	br := l.bridge
	loop4, loop6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	at := nftables.ChainPriorityRef
	return []chain{
		{name: chainPub, rules: [][]expr.Any{
			join(protoAndPort(), translate(mapServices, unix.NFT_REG_VERDICT)),
			join(ipv4.only(), protoAndPort(), translate(mapPub4, reg1), ipv4.dnat()),
			join(ipv6.only(), protoAndPort(), translate(mapPub6, reg1), ipv6.dnat()),
		}},
		// The price of route_localnet: without this a container could reach what listens
		// on the host's 127.0.0.1.
		{name: chainGuard, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityRaw, rules: [][]expr.Any{
			join(iif(expr.CmpOpEq, br), ipv4.only(), ipv4.inNet(ipv4.daddr, loop4), drop()),
		}},
		{name: chainPrerouting, kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityNATDest, rules: [][]expr.Any{
			join(toHost(), verdict(expr.VerdictJump, chainPub)),
		}},
		{name: chainOutput, kind: nftables.ChainTypeNAT, hook: nftables.ChainHookOutput, priority: at(-100), rules: [][]expr.Any{
			join(ipv6.only(), ipv6.inNet(ipv6.daddr, loop6), verdict(expr.VerdictReturn, "")), // the kernel cannot; the proxy does
			join(toHost(), verdict(expr.VerdictJump, chainPub)),
		}},
		{name: chainPostrouting, kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, priority: nftables.ChainPriorityNATSource, rules: [][]expr.Any{
			// Hairpin, container to a host address, and 127.0.0.1: the answer must come back
			// through the host to be translated back.
			join(oif(expr.CmpOpEq, br), ipv4.only(), dnatted(true), ipv4.inNet(ipv4.saddr, l.cidr), masquerade()),
			join(oif(expr.CmpOpEq, br), ipv4.only(), dnatted(true), ipv4.inNet(ipv4.saddr, loop4), masquerade()),
			join(oif(expr.CmpOpEq, br), ipv6.only(), dnatted(true), ipv6.inNet(ipv6.saddr, l.cidr6), masquerade()),
			join(oif(expr.CmpOpNeq, br), ipv4.only(), ipv4.inNet(ipv4.saddr, l.cidr), masquerade()),
			join(oif(expr.CmpOpNeq, br), ipv6.only(), ipv6.inNet(ipv6.saddr, l.cidr6), masquerade()),
		}},
		{name: chainForward, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, priority: nftables.ChainPriorityFilter, rules: [][]expr.Any{
			// Unpublished ports are not for whoever routes straight to a container.
			join(oif(expr.CmpOpEq, br), iif(expr.CmpOpNeq, br), newConn(), dnatted(false), drop()),
			// Where forwarding is on only because we need it, the host does not become a
			// router between its other interfaces.
			join(oif(expr.CmpOpNeq, br), ipv4.only(), newConn(), dnatted(false), exprs{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1}}, lookup(setOpened4), drop()),
			join(oif(expr.CmpOpNeq, br), ipv6.only(), newConn(), dnatted(false), exprs{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1}}, lookup(setOpened6), drop()),
		}},
		// A service port without a backend refuses at once, on every address. What the host
		// itself asks for is refused on its way out: past that, the connection tracking would
		// remember the attempt, untranslated, and refuse whoever comes from the same port
		// within ten seconds, backend or not.
		{name: chainInput, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookInput, priority: nftables.ChainPriorityFilter, rules: refuse()},
		{name: chainOutgoing, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, priority: nftables.ChainPriorityFilter, rules: refuse()},
	}
}

// refuse answers new connections to the ports in the set of refused ones as a closed port
// would.
func refuse() [][]expr.Any {
	return [][]expr.Any{
		join(newConn(), compare(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_TCP}), toHost(), protoAndPort(), lookup(setRefused),
			exprs{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}),
		join(newConn(), toHost(), protoAndPort(), lookup(setRefused),
			exprs{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}),
	}
}

// marker names an empty chain that stands for the version of the chains above: a table made
// by another ecsd, or for another network, has another.
func marker(cs []chain) string {
	h := sha256.New()
	for _, c := range cs {
		_, _ = fmt.Fprintln(h, c.name, c.kind, c.hook != nil) // a hash takes everything
		if c.hook != nil {
			_, _ = fmt.Fprintln(h, *c.hook, *c.priority)
		}
		for _, rule := range c.rules {
			for _, e := range rule {
				_, _ = fmt.Fprintf(h, "%T %+v\n", e, e)
			}
		}
	}
	return "version_" + hex.EncodeToString(h.Sum(nil)[:4])
}

// The shapes of maps and sets.

var typeProtoPort = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)

func (f family) pubMap(t *nftables.Table, name string) *nftables.Set {
	return &nftables.Set{Table: t, Name: name, IsMap: true, Concatenation: true,
		KeyType: typeProtoPort, DataType: nftables.MustConcatSetType(f.dataType, nftables.TypeInetService)}
}

func servicesMap(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: mapServices, IsMap: true, Concatenation: true, KeyType: typeProtoPort, DataType: nftables.TypeVerdict}
}

func refusedSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{Table: t, Name: setRefused, Concatenation: true, KeyType: typeProtoPort}
}

func openedSet(t *nftables.Table, name string) *nftables.Set {
	return &nftables.Set{Table: t, Name: name, KeyByteOrder: binaryutil.NativeEndian, KeyType: nftables.TypeIFName}
}

// Keys and values of elements.

func ifname(s string) []byte {
	b := make([]byte, 16)
	copy(b, s)
	return b
}

func protoNumber(proto string) byte {
	if proto == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

func (p hostPort) key() []byte {
	return []byte{protoNumber(p.proto), 0, 0, 0, byte(p.port >> 8), byte(p.port), 0, 0}
}

func (p hostPort) String() string { return strconv.Itoa(int(p.port)) + "/" + p.proto }

// portOfKey is key's reverse.
func portOfKey(k []byte) hostPort {
	p := hostPort{proto: "tcp", port: uint16(k[4])<<8 | uint16(k[5])}
	if k[0] == unix.IPPROTO_UDP {
		p.proto = "udp"
	}
	return p
}

func target(a netip.AddrPort) []byte {
	return append(a.Addr().AsSlice(), byte(a.Port()>>8), byte(a.Port()), 0, 0)
}
