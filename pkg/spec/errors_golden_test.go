package spec

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestErrors reads testdata/errors/*.txtar: each holds files as somebody might write
// them, and at its end, under "errors", what is said about each: all its errors, or that
// it is accepted, and then what has no effect. -update rewrites that part.
func TestErrors(t *testing.T) {
	archives, err := filepath.Glob("testdata/errors/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(archive)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool {
				if f.Name == "errors" {
					want = string(f.Data)
					return true
				}
				return false
			})
			var got strings.Builder
			for _, f := range a.Files {
				got.WriteString(report(f.Name, f.Data))
			}
			if *update {
				a.Files = append(a.Files, txtar.File{Name: "errors", Data: []byte(got.String())})
				writeGolden(t, archive, txtar.Format(a))
				return
			}
			if got.String() != want {
				t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
			}
		})
	}
}

func report(file string, data []byte) string {
	docs, err := Load(file, data)
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, d := range docs {
		b.WriteString(file + ": accepted: " + d.Kind + " " + d.Name + "\n")
		for _, s := range d.NotCarriedOut() {
			b.WriteString(file + ": " + s + "\n")
		}
	}
	return b.String()
}
