package network

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// foreignTable makes a forward chain as another firewall would.
func foreignTable(t *testing.T, family nftables.TableFamily, policy nftables.ChainPolicy, docker bool, rules ...[]expr.Any) {
	t.Helper()
	c := must(nftables.New())(t)
	table := c.AddTable(&nftables.Table{Name: "filter", Family: family})
	t.Cleanup(func() { c.DelTable(table); check(t, c.Flush()) })
	forward := c.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy})
	if docker {
		user := c.AddChain(&nftables.Chain{Name: "DOCKER-USER", Table: table})
		c.AddRule(&nftables.Rule{Table: table, Chain: user, Exprs: verdict(expr.VerdictReturn, "")})
		c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: verdict(expr.VerdictJump, "DOCKER-USER")})
	}
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: r})
	}
	check(t, c.Flush())
}

// TestForeignFirewalls: with Docker's, ufw's or firewalld's rules beside ours, everything
// works that should, and what was not published is still not reached.
func TestForeignFirewalls(t *testing.T) {
	established := join(dnatted(false), ct(expr.CtKeySTATE, expr.CtStateBitESTABLISHED, true), accept())
	dnat := join(dnatted(true), accept())
	reject := exprs{&expr.Reject{Type: 2, Code: 3}}
	for _, c := range []struct {
		name string
		make func(*testing.T)
	}{
		{"docker", func(t *testing.T) {
			foreignTable(t, nftables.TableFamilyIPv4, nftables.ChainPolicyDrop, true)
			foreignTable(t, nftables.TableFamilyIPv6, nftables.ChainPolicyDrop, true)
		}},
		{"ufw", func(t *testing.T) {
			foreignTable(t, nftables.TableFamilyIPv4, nftables.ChainPolicyDrop, false, established)
			foreignTable(t, nftables.TableFamilyIPv6, nftables.ChainPolicyDrop, false, established)
		}},
		{"firewalld", func(t *testing.T) {
			foreignTable(t, nftables.TableFamilyINet, nftables.ChainPolicyAccept, false, established, dnat, reject)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.attach(t, "a", PortRequest{ContainerPort: 80, HostPort: 8080})
			serve(t, a.Namespace, "a", ":80")
			serve(t, w.outside, "outside", ":8080")
			c.make(t)
			if got := tryWithin(soon, a.Namespace, "tcp", "10.9.0.2:8080"); got == "outside 10.9.0.1" {
				t.Fatal("the firewall of this test stops nothing")
			}
			for range 2 { // the second time there is nothing to do
				check(t, w.Repair(t.Context()))
			}
			for _, c := range []struct{ from, to, want string }{
				{w.outside, "10.9.0.1:8080", "a 10.9.0.2"},
				{w.outside, "[fd09::1]:8080", "a fd09::2"},
				{a.Namespace, "10.9.0.2:8080", "outside 10.9.0.1"},
				{a.Namespace, "[fd09::2]:8080", "outside fd09::1"},
				{a.Namespace, "10.9.0.1:8080", "a 10.79.0.1"},
				{w.outside, a.IPv4.String() + ":80", "dropped"},
			} {
				expect(t, c.from, "tcp", c.to, c.want)
			}
			if again := must(w.passForeign())(t); len(again) != 0 {
				t.Errorf("rules were added once more: %v", again)
			}
			nft := must(nftables.New())(t)
			check(t, w.unpassForeign())
			if bs := must(w.blockers(nft))(t); len(bs) == 0 || bs[0].found != [2]bool{} {
				t.Errorf("after taking the rules out: %+v", bs)
			}
		})
	}
}

// TestNoRouter: forwarding that was switched on for containers does not make the host a
// router between its other interfaces; forwarding that was on before stays what it was.
func TestNoRouter(t *testing.T) {
	w := newWorld(t)
	far := t.TempDir() + "/far"
	check(t, newNamespace(far, func() error { return nil }))
	t.Cleanup(func() { check(t, unpin(far)) })
	// A second network of the host's: the container side of an attachment to another bridge
	// serves as one.
	second := Config{Bridge: "second0", CIDR: netip.MustParsePrefix("10.80.0.0/24"), RunDir: t.TempDir()}
	t.Cleanup(func() { check(t, Remove(context.Background(), second)) })
	n := must(Open(t.Context(), second, nil))(t)
	defer n.Close()
	x := must(n.Attach(t.Context(), Request{ID: "x"}, nil))(t)
	serve(t, x.Namespace, "x", ":80")
	// Without its own table nothing but ours keeps strangers out.
	check(t, n.table.remove())
	check(t, w.Repair(t.Context()))
	if v4, v6 := w.table.opened(); !slices.Equal(v4, []string{"second0", "up0"}) && !slices.Equal(v4, []string{"up0"}) || !slices.Contains(v6, "up0") {
		t.Errorf("opened: %v, %v", v4, v6)
	}
	for _, to := range []netip.Addr{x.IPv4, x.IPv6} {
		expect(t, w.outside, "tcp", netip.AddrPortFrom(to, 80).String(), "dropped")
	}
	// The administrator makes it a router.
	check(t, setSysctl("ipv4/ip_forward", "1"))
	t.Cleanup(func() { check(t, setSysctl("ipv4/ip_forward", "0")) })
	check(t, w.Repair(t.Context()))
	if v4, _ := w.table.opened(); len(v4) != 0 {
		t.Errorf("still closed to %v", v4)
	}
	if got := try(w.outside, "tcp", netip.AddrPortFrom(x.IPv4, 80).String()); got != "x 10.9.0.2" {
		t.Errorf("a router that does not route: %s", got)
	}
}
