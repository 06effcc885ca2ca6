package spec

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The lists in docs/security.md are those in the code.
func TestSecurityDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := func(name string) []string {
		_, rest, ok := strings.Cut(string(doc), "<!-- "+name+" -->")
		list, _, closed := strings.Cut(rest, "<!-- end -->")
		if !ok || !closed {
			t.Fatalf("no list %q", name)
		}
		var words []string
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(list, -1) {
			words = append(words, m[1])
		}
		return words
	}
	var capabilities []string
	for _, c := range DefaultCapabilities() {
		capabilities = append(capabilities, strings.TrimPrefix(c, "CAP_"))
	}
	for name, want := range map[string][]string{"capabilities": capabilities, "masked": maskedPaths(), "readonly": readonlyPaths()} {
		if got := listed(name); !slices.Equal(got, want) {
			t.Errorf("%s: the page has\n%v, the code\n%v", name, got, want)
		}
	}
	for _, s := range defaultSysctls() {
		if !strings.Contains(string(doc), s) {
			t.Errorf("the value %q of a default sysctl is not on the page", s)
		}
	}
}
