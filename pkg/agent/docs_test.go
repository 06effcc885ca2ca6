package agent

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// TestDocs holds docs/configuration.md against the variables; -update writes it.
func TestDocs(t *testing.T) {
	const file = "../../docs/configuration.md"
	want := configurationPage()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not as generated: go test ./pkg/agent -run TestDocs -update", file)
	}
}

func configurationPage() string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Generated from pkg/agent by go test ./pkg/agent -run TestDocs -update. -->

Flags come before the environment, the environment before the file, the file before defaults. The file is
` + "`" + DefaultConfigFile + "`" + ` (` + "`--config`" + `): lines of ` + "`KEY=VALUE`" + `, the Amazon ECS agent's format and names. A setting that is
known and has no effect here is a warning, an unknown one an error. ` + "`ecsd config`" + ` shows every value and where it
came from.

| variable | flag | default | meaning |
|---|---|---|---|
`)
	for _, v := range variables() {
		if v.set == nil {
			continue
		}
		flagName := ""
		if v.flag != "" {
			flagName = "`--" + v.flag + "`"
		}
		def := ""
		if v.def != "" {
			def = "`" + v.def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", v.name, flagName, def, v.meaning)
	}
	b.WriteString("\n## Known, without effect\n\n| variable | why |\n|---|---|\n")
	for _, v := range variables() {
		if v.set == nil {
			fmt.Fprintf(&b, "| `%s` | %s |\n", v.name, v.noEffect)
		}
	}
	return b.String()
}
