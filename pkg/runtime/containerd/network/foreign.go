package network

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Other people's firewalls. A packet must pass every base chain of the forward hook, so
// an accept in our table does not save it from a drop in another's: Docker sets the policy
// of FORWARD to drop, firewalld and ufw end theirs in a reject. What helps is a rule in
// their chain, before the drop, that lets our bridge pass. Docker keeps a chain for such
// rules, DOCKER-USER. Our own chain "forward" goes on dropping what was not published.

// blocker is a chain of somebody else's that would drop what is forwarded for us.
type blocker struct {
	chain *nftables.Chain // where to put the rules
	why   string          // for the log
	found [2]bool         // our rules that are there: for iifname, for oifname
}

// blockers finds them. It reads nftables, which iptables-nft is a front end of; what the
// legacy iptables holds cannot be seen this way.
func (n *Network) blockers(c *nftables.Conn) ([]blocker, error) {
	all, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var out []blocker
	for _, ch := range all {
		if ch.Hooknum == nil || *ch.Hooknum != *nftables.ChainHookForward || ch.Type != nftables.ChainTypeFilter || ch.Table.Name == n.layout.table {
			continue
		}
		switch ch.Table.Family {
		case nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet:
		default:
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			continue // gone meanwhile
		}
		b := blocker{chain: ch, why: refusal(ch, rules, n.layout.bridge)}
		if b.why == "" {
			continue
		}
		if user := dockerUser(all, ch, rules); user != nil {
			b.chain = user
			if rules, err = c.GetRules(user.Table, user); err != nil {
				continue
			}
		}
		for _, r := range rules {
			for i, key := range bridgeKeys {
				b.found[i] = b.found[i] || acceptsBridge(r, key, n.layout.bridge)
			}
		}
		out = append(out, b)
	}
	return out, nil
}

var bridgeKeys = [2]expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME}

// refusal says why a chain of the forward hook would stop the bridge's packets; "" when it
// would not: its policy is to drop, or its last rule drops or rejects, and is neither about
// another interface alone nor of another agent's table.
func refusal(ch *nftables.Chain, rules []*nftables.Rule, bridge string) string {
	if ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
		return "its policy is drop"
	}
	if len(rules) == 0 {
		return ""
	}
	last := rules[len(rules)-1].Exprs
	if len(last) == 0 || aboutAnother(last, bridge) || ofAnAgent(last) {
		return ""
	}
	switch e := last[len(last)-1].(type) {
	case *expr.Reject:
		return "its last rule rejects"
	case *expr.Verdict:
		if e.Kind == expr.VerdictDrop {
			return "its last rule drops"
		}
	case *expr.Target:
		if e.Name == "REJECT" {
			return "its last rule rejects"
		}
	}
	return ""
}

// aboutAnother reports whether a rule begins by asking for an interface that is not the
// bridge.
func aboutAnother(rule []expr.Any, bridge string) bool {
	if len(rule) < 2 {
		return false
	}
	m, is1 := rule[0].(*expr.Meta)
	c, is2 := rule[1].(*expr.Cmp)
	return is1 && is2 && slices.Contains(bridgeKeys[:], m.Key) && c.Op == expr.CmpOpEq &&
		string(bytes.TrimRight(c.Data, "\x00")) != bridge
}

// ofAnAgent recognises the last rule of an agent's own chain "forward": it drops what comes
// from interfaces that forward for that agent's sake alone, and none of them is a bridge.
func ofAnAgent(rule []expr.Any) bool {
	return slices.ContainsFunc(rule, func(e expr.Any) bool {
		l, is := e.(*expr.Lookup)
		return is && (l.SetName == setOpened4 || l.SetName == setOpened6)
	})
}

// dockerUser is the chain DOCKER-USER of the same table, when the forward chain jumps to it.
func dockerUser(all []*nftables.Chain, forward *nftables.Chain, rules []*nftables.Rule) *nftables.Chain {
	const name = "DOCKER-USER"
	i := slices.IndexFunc(all, func(c *nftables.Chain) bool {
		return c.Name == name && c.Table.Name == forward.Table.Name && c.Table.Family == forward.Table.Family
	})
	if i < 0 {
		return nil
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if v, is := e.(*expr.Verdict); is && v.Kind == expr.VerdictJump && v.Chain == name {
				return all[i]
			}
		}
	}
	return nil
}

// bridgeAccept lets what comes from (or goes to) the bridge pass. With the counter it is
// exactly what iptables-nft writes for -i and -o, so that iptables can show it.
func bridgeAccept(key expr.MetaKey, bridge string) []expr.Any {
	return join(compare(key, expr.CmpOpEq, append([]byte(bridge), 0)), exprs{&expr.Counter{}}, accept())
}

// acceptsBridge recognises such a rule.
func acceptsBridge(r *nftables.Rule, key expr.MetaKey, bridge string) bool {
	if len(r.Exprs) < 3 {
		return false
	}
	m, is1 := r.Exprs[0].(*expr.Meta)
	c, is2 := r.Exprs[1].(*expr.Cmp)
	v, is3 := r.Exprs[len(r.Exprs)-1].(*expr.Verdict)
	return is1 && is2 && is3 && len(r.Exprs) <= 4 && m.Key == key && c.Op == expr.CmpOpEq && v.Kind == expr.VerdictAccept &&
		string(bytes.TrimRight(c.Data, "\x00")) == bridge
}

// passForeign sees to it that other people's forward chains let the bridge pass, and
// returns what it changed, in words. All is well: nothing.
func (n *Network) passForeign() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	bs, err := n.blockers(c)
	if err != nil {
		return nil, err
	}
	var done []string
	for _, b := range bs {
		missing := false
		for i, key := range bridgeKeys {
			if !b.found[i] {
				missing = true
				c.InsertRule(&nftables.Rule{Table: b.chain.Table, Chain: b.chain, Exprs: bridgeAccept(key, n.layout.bridge)})
			}
		}
		if missing {
			done = append(done, fmt.Sprintf("chain %s of table %s (%s)", b.chain.Name, b.chain.Table.Name, b.why))
		}
	}
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("let %s pass in other firewalls' forward chains: %w", n.layout.bridge, err)
	}
	return done, nil
}

// unpassForeign takes those rules out again, wherever they are.
func (n *Network) unpassForeign() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	all, err := c.ListChains()
	if err != nil {
		return fmt.Errorf("list nftables chains: %w", err)
	}
	for _, ch := range all {
		if ch.Table.Name == n.layout.table {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			continue
		}
		for _, r := range rules {
			if acceptsBridge(r, bridgeKeys[0], n.layout.bridge) || acceptsBridge(r, bridgeKeys[1], n.layout.bridge) {
				r.Table, r.Chain = ch.Table, ch
				if err := c.DelRule(r); err != nil {
					return err
				}
			}
		}
	}
	return c.Flush()
}

// legacyTables names the address families for which the legacy iptables has a filter
// table, whose rules we can neither see nor mend.
func legacyTables() []string {
	var out []string
	for _, f := range []string{"ip", "ip6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + f + "_tables_names")
		if err == nil && slices.Contains(strings.Fields(string(b)), "filter") {
			out = append(out, f+"tables")
		}
	}
	return out
}
