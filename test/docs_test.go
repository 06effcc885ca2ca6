package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ecsd/pkg/spec"
)

var (
	fence = regexp.MustCompile("(?s)```(yaml|json)\n(.*?)```")
	link  = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
)

// documents are the Markdown files of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	top, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := append(top, docs...)
	if len(all) < 8 {
		t.Fatalf("only %d documents found: the test looks in the wrong place", len(all))
	}
	return all
}

// TestManifestsInDocuments holds what the documents show against the real decoder: every
// YAML or JSON block that defines a family or a service must be accepted as it stands.
func TestManifestsInDocuments(t *testing.T) {
	shown := 0
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(block[2], "containerDefinitions") {
				continue
			}
			shown++
			accepted(t, filepath.Base(file)+"."+block[1], []byte(block[2]))
		}
	}
	if shown == 0 {
		t.Error("no document shows a manifest")
	}
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/*.*")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Fatalf("only %d examples", len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		accepted(t, filepath.Base(file), text)
	}
}

func accepted(t *testing.T, name string, text []byte) {
	t.Helper()
	if _, err := spec.Load(name, text); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), l[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", file, l[1])
			}
		}
	}
}
