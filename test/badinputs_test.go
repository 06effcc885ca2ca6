package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestBadInputs holds docs/bad-inputs.md to its word: each input that a reviewer might try
// has a row, and each test that a row names exists. A name is written
//
//	pkg/spec.TestErrors/13-no-essential     a golden file, a subtest or a case of a table
//	test/e2e.TestBadInput/Machine/port-22
//
// and the last part of it is a file's name or a text in the package's tests.
func TestBadInputs(t *testing.T) {
	page, err := os.ReadFile("../docs/bad-inputs.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| .* \| .* \| (.*) \|$`)
	named := regexp.MustCompile("`([a-z0-9/-]+)\\.(Test\\w+)((?:/[^`/]+)*)`")
	rows := map[int]bool{}
	for _, r := range row.FindAllStringSubmatch(string(page), -1) {
		item, _ := strconv.Atoi(r[1])
		rows[item] = true
		tests := named.FindAllStringSubmatch(r[2], -1)
		if len(tests) != strings.Count(r[2], "`")/2 || len(tests) == 0 {
			t.Errorf("item %d: %q does not name tests as package.Test/case", item, r[2])
		}
		for _, n := range tests {
			if err := testExists(n[1], n[2], strings.TrimPrefix(n[3], "/")); err != nil {
				t.Errorf("item %d: %v", item, err)
			}
		}
	}
	for item := 1; item <= 60; item++ {
		if (item <= 44 || item >= 56) && !rows[item] {
			t.Errorf("item %d has no row", item)
		}
	}
}

// testExists looks for the function, and for the last part of the subtest's name: a file
// below testdata, or a text in the package's tests.
func testExists(pkg, function, subtest string) error {
	files, _ := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
	var source strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		source.Write(text)
	}
	if !strings.Contains(source.String(), "func "+function+"(") {
		return fmt.Errorf("%s has no %s", pkg, function)
	}
	if subtest == "" {
		return nil
	}
	last := subtest[strings.LastIndex(subtest, "/")+1:]
	for _, dir := range []string{"testdata", "testdata/*"} {
		if found, _ := filepath.Glob(filepath.Join("..", pkg, dir, last+".txtar")); len(found) > 0 {
			return nil
		}
	}
	for _, text := range []string{strconv.Quote(last), strconv.Quote(strings.ReplaceAll(last, "_", " "))} {
		if strings.Contains(source.String(), text) {
			return nil
		}
	}
	return fmt.Errorf("%s.%s has no case %q", pkg, function, last)
}
