package network

import (
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

func TestRefusalIsAboutOurBridge(t *testing.T) {
	drop := exprs{&expr.Verdict{Kind: expr.VerdictDrop}}
	about := func(name string) exprs {
		return join(compare(expr.MetaKeyOIFNAME, expr.CmpOpEq, append([]byte(name), 0)), drop)
	}
	agents := join(exprs{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1}}, lookup(setOpened6), drop)
	policy := nftables.ChainPolicyDrop
	for name, c := range map[string]struct {
		chain *nftables.Chain
		last  []expr.Any
		want  string
	}{
		"a drop of everything":                    {&nftables.Chain{}, drop, "its last rule drops"},
		"a drop of what leaves by our bridge":     {&nftables.Chain{}, about("ecsd0"), "its last rule drops"},
		"a drop of what leaves by another bridge": {&nftables.Chain{}, about("ecsd1"), ""},
		"a policy":                       {&nftables.Chain{Policy: &policy}, about("ecsd1"), "its policy is drop"},
		"the last rule of another agent": {&nftables.Chain{}, agents, ""},
		"nothing":                        {&nftables.Chain{}, nil, ""},
	} {
		if got := refusal(c.chain, []*nftables.Rule{{Exprs: c.last}}, "ecsd0"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
