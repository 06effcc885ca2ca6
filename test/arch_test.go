// Package test holds the tests of the whole: which package may import which, whether what
// the documents show works, and whether metrics, alerts and dashboards agree.
package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors are the packages of ecsd from the ground up: a package may import what is on a
// lower floor, and its own subpackages' parents never import them back.
var floors = map[string]int{
	"pkg/spec":                0,
	"pkg/runtime":             1,
	"pkg/deploy":              1,
	"pkg/scheduler":           1,
	"pkg/acs":                 1,
	"pkg/ecsapi":              1,
	"pkg/secrets":             1,
	"pkg/logs":                1,
	"pkg/manifest":            2,
	"pkg/reconcile":           2,
	"pkg/runtime/containerd":  2,
	"pkg/runtime/fake":        2,
	"pkg/runtime/runtimetest": 2,
	"pkg/service":             3,
	"pkg/cluster":             3,
	"pkg/localapi":            3,
	"pkg/introspect":          3,
	"pkg/taskmeta":            3,
	"pkg/health":              3,
	"pkg/agent":               4,
	"pkg/controlplane":        4,
	"cmd/ecsd":                5,
	"cmd/ecsd-log":            5,
}

// doors are third-party modules that only some packages may import.
var doors = map[string][]string{
	"github.com/containerd/containerd/": {"pkg/runtime/containerd"},
	"github.com/containerd/cgroups/":    {"pkg/runtime/containerd"},
	"github.com/vishvananda/":           {"pkg/runtime/containerd"},
	"github.com/google/nftables":        {"pkg/runtime/containerd"},
	"github.com/containernetworking/":   {"pkg/runtime/containerd"},
	"github.com/containerd/go-cni":      {"pkg/runtime/containerd"},
	"go.etcd.io/":                       {"pkg/controlplane/store"},
	"github.com/aws/":                   {"pkg/cluster", "pkg/secrets", "pkg/logs"},
}

var rooms = []string{"util", "utils", "common", "helpers", "helper", "manager", "types", "model", "models", "misc"}

func TestImportsPointDown(t *testing.T) {
	checked := 0
	eachGoFile(t, func(file, pkg string, imports []string) {
		floor, ok := floorOf(pkg)
		if !ok {
			t.Errorf("%s: package %s is on no floor; give it one in test/arch_test.go", file, pkg)
			return
		}
		for _, imported := range imports {
			inner, ours := strings.CutPrefix(imported, "ecsd/")
			if !ours {
				continue
			}
			checked++
			below, _ := floorOf(inner)
			inside := strings.HasPrefix(inner, pkg+"/") || strings.HasPrefix(pkg, inner+"/")
			if below >= floor && !inside {
				t.Errorf("%s: %s (floor %d) imports %s (floor %d): imports only point down", file, pkg, floor, inner, below)
			}
		}
	})
	if checked < 10 {
		t.Fatalf("only %d imports were checked: the test looks in the wrong place", checked)
	}
}

func TestDoors(t *testing.T) {
	passed := map[string]bool{}
	eachGoFile(t, func(file, pkg string, imports []string) {
		for _, imported := range imports {
			for door, allowed := range doors {
				if !strings.HasPrefix(imported, door) {
					continue
				}
				if !slices.ContainsFunc(allowed, func(p string) bool { return pkg == p || strings.HasPrefix(pkg, p+"/") }) {
					t.Errorf("%s: %s may not import %s; only %v may", file, pkg, imported, allowed)
				}
				passed[door] = true
			}
		}
	})
	if !passed["github.com/containerd/containerd/"] {
		t.Error("nobody imports the containerd client: the test looks in the wrong place")
	}
}

func TestNoRoomForEverything(t *testing.T) {
	eachGoFile(t, func(file, pkg string, _ []string) {
		if slices.Contains(rooms, path.Base(pkg)) {
			t.Errorf("%s: name the package after what it is for", file)
		}
	})
}

// floorOf is the floor of a package, or of the package whose subpackage it is.
func floorOf(pkg string) (int, bool) {
	for p := pkg; p != "."; p = path.Dir(p) {
		if floor, ok := floors[p]; ok {
			return floor, true
		}
	}
	return 0, false
}

// eachGoFile visits the product's Go files (not tests, not test tools).
func eachGoFile(t *testing.T, visit func(file, pkg string, imports []string)) {
	t.Helper()
	for _, top := range []string{"../pkg", "../cmd"} {
		err := filepath.WalkDir(top, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || strings.Contains(file, "/testdata/") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			var imports []string
			for _, i := range f.Imports {
				name, _ := strconv.Unquote(i.Path.Value)
				imports = append(imports, name)
			}
			visit(file, strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), "../"), imports)
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}
