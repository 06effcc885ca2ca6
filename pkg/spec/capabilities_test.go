package spec

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func without(set []string, drop ...string) []string {
	return slices.DeleteFunc(slices.Clone(set), func(c string) bool { return slices.Contains(drop, c) })
}

func TestTweakCapabilities(t *testing.T) {
	for _, test := range []struct {
		name            string
		add, drop, want []string
	}{
		{name: "nothing said", want: defaultCapabilities},
		{name: "dropped", drop: []string{"CAP_MKNOD"}, want: without(defaultCapabilities, "CAP_MKNOD")},
		{name: "added and dropped", add: []string{"CAP_MKNOD"}, drop: []string{"CAP_MKNOD"}, want: defaultCapabilities},
		{name: "all", add: []string{"ALL"}, want: allCapabilities},
		{name: "all but", add: []string{"ALL"}, drop: []string{"CAP_SYS_ADMIN", "CAP_BPF"}, want: without(allCapabilities, "CAP_SYS_ADMIN", "CAP_BPF")},
		{name: "all and more", add: []string{"CAP_BPF", "ALL"}, drop: []string{"CAP_BPF"}, want: without(allCapabilities, "CAP_BPF")},
		{name: "none", drop: []string{"ALL"}, want: nil},
		{name: "only", add: []string{"CAP_BPF", "CAP_CHOWN"}, drop: []string{"CAP_KILL", "ALL"}, want: []string{"CAP_CHOWN", "CAP_BPF"}},
		{name: "all of both", add: []string{"ALL"}, drop: []string{"ALL"}, want: allCapabilities},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := tweakCapabilities(test.add, test.drop, allCapabilities); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// The oracle takes the list that Docker starts from and edits it, where the code asks of
// each capability whether it belongs.
func TestTweakCapabilitiesAgainstEditedLists(t *testing.T) {
	names := rapid.SliceOfDistinct(rapid.SampledFrom(append(AllCapabilities(), "ALL")), rapid.ID[string])
	rapid.Check(t, func(t *rapid.T) {
		add, drop := names.Draw(t, "add"), names.Draw(t, "drop")
		list := DefaultCapabilities()
		all := slices.Contains(add, "ALL")
		if all {
			list = AllCapabilities()
		} else if slices.Contains(drop, "ALL") {
			list = nil
		}
		for _, d := range drop {
			list = without(list, d)
		}
		if !all {
			for _, a := range add {
				list = append(without(list, a), a)
			}
		}
		got := slices.Clone(tweakCapabilities(add, drop, allCapabilities))
		slices.Sort(got)
		slices.Sort(list)
		if !slices.Equal(got, list) {
			t.Fatalf("add %v, drop %v: got %v, want %v", add, drop, got, list)
		}
	})
}

func TestCapabilityName(t *testing.T) {
	for given, want := range map[string]string{
		"NET_ADMIN": "CAP_NET_ADMIN", "cap_net_admin": "CAP_NET_ADMIN", " chown": "CAP_CHOWN", "all": "ALL",
		"": "", "CAP_ALL": "", "NET": "", "CAP_CAP_CHOWN": "",
	} {
		name, ok := CapabilityName(given)
		if ok != (want != "") || ok && name != want {
			t.Errorf("%q: %q, %v; want %q", given, name, ok, want)
		}
	}
	if len(allCapabilities) != 41 || len(defaultCapabilities) != 14 {
		t.Errorf("%d capabilities, %d by default; Linux has 41, Docker gives 14", len(allCapabilities), len(defaultCapabilities))
	}
	for _, c := range slices.Concat(allCapabilities, defaultCapabilities) {
		if name, ok := CapabilityName(strings.TrimPrefix(c, "CAP_")); !ok || name != c {
			t.Errorf("%s is not itself", c)
		}
	}
}
