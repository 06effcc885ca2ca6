package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"
)

// testTask is the id of the task in tests.
const testTask = "0123456789abcdef0123456789abcdef"

// testImage is the image of a golden file that does not say otherwise.
func testImage() ImageConfig {
	return ImageConfig{
		Entrypoint: []string{"/entry"},
		Cmd:        []string{"from-image"},
		Env:        []string{"FROM_IMAGE=yes"},
		Passwd:     []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"),
		Group:      []byte("root:x:0:\nadm:x:4:app\napp:x:1000:\naudio:x:29:app,root\n"),
	}
}

// testHost is a plain host on cgroup v1, and a container with a network of its own.
func testHost() Host {
	return Host{
		Arch:             "amd64",
		Hostname:         "node-1",
		NetworkNamespace: "/run/ecsd/netns/web",
		Etc:              EtcFiles{Hosts: "/task/hosts", ResolvConf: "/task/resolv.conf", Hostname: "/task/hostname"},
		SwapAccounting:   true,
		PidsLimit:        4096,
		InitBinary:       "/usr/bin/ecsd-log",
	}
}

// TestOCIGolden renders the definitions in testdata/oci. A file has the sections
//
//	task.yaml            a task definition; the first container is rendered
//	container            the name of another one (optional)
//	image.yaml           what differs from testImage (optional)
//	host.yaml            what differs from testHost (optional)
//	spec.json or error   what comes of it; the seccomp rules are only counted
//	task-resources.json  what TaskResources gives (only checked where the section is)
//
// go test -run TestOCIGolden -update writes the last two anew.
func TestOCIGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/oci/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 30 {
		t.Fatalf("%d golden files, want at least 30", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := renderGolden(t, archive)
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want, have := string(txtar.Format(archive)), string(txtar.Format(got)); want != have {
				t.Errorf("differs (-update rewrites it):\n%s", lineDiff(want, have))
			}
		})
	}
}

// renderGolden gives the archive as it should be.
func renderGolden(t *testing.T, in *txtar.Archive) *txtar.Archive {
	t.Helper()
	task := Task{ID: testTask}
	img, host := testImage(), testHost()
	container, resources := "", false
	out := &txtar.Archive{Comment: in.Comment}
	for _, f := range in.Files {
		var err error
		switch f.Name {
		case "task.yaml":
			err = yaml.UnmarshalStrict(f.Data, &task.Definition)
		case "container":
			container = strings.TrimSpace(string(f.Data))
		case "image.yaml":
			err = yaml.UnmarshalStrict(f.Data, &img)
		case "host.yaml":
			err = yaml.UnmarshalStrict(f.Data, &host)
		case "task-resources.json":
			resources = true
			continue
		case "spec.json", "error":
			continue
		default:
			err = errors.New("no section has that name")
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		out.Files = append(out.Files, f)
	}
	task.Family = task.Definition.Family
	if container == "" {
		container = task.Definition.ContainerDefinitions[0].Name
	}
	s, err := OCI(task, container, img, host)
	if err != nil {
		if _, ok := AsOCIError(err); !ok {
			t.Errorf("%v is not an *OCIError", err)
		}
		out.Files = append(out.Files, txtar.File{Name: "error", Data: []byte(err.Error() + "\n")})
	} else {
		out.Files = append(out.Files, txtar.File{Name: "spec.json", Data: goldenJSON(t, withoutRules(s))})
	}
	if resources {
		out.Files = append(out.Files, txtar.File{Name: "task-resources.json", Data: goldenJSON(t, TaskResources(task, host))})
	}
	return out
}

// withoutRules replaces the seccomp rules, the same few hundred names in every spec, by
// their number.
func withoutRules(s *specs.Spec) *specs.Spec {
	if s.Linux.Seccomp == nil {
		return s
	}
	names := 0
	for _, rule := range s.Linux.Seccomp.Syscalls {
		names += len(rule.Names)
	}
	shown := *s.Linux.Seccomp
	shown.Syscalls = []specs.LinuxSyscall{{
		Names: []string{fmt.Sprintf("%d rules with %d names", len(s.Linux.Seccomp.Syscalls), names)}, Action: "(not shown)",
	}}
	linux := *s.Linux
	linux.Seccomp = &shown
	c := *s
	c.Linux = &linux
	return &c
}

// goldenJSON prints v as JSON with as much on a line as fits, so that a diff shows a
// mount or a limit as a line.
func goldenJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	layoutJSON(t, &out, b, 0)
	out.WriteByte('\n')
	if !json.Valid(out.Bytes()) {
		t.Fatalf("layoutJSON made invalid JSON:\n%s", out.String())
	}
	return out.Bytes()
}

func layoutJSON(t *testing.T, out *bytes.Buffer, value json.RawMessage, indent int) {
	t.Helper()
	const width = 120
	if open := value[0]; len(value)+indent <= width || open != '{' && open != '[' {
		out.Write(value)
		return
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	token := func() json.Token {
		tok, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	start := token()
	fmt.Fprintf(out, "%v", start)
	column := width // of the last line; so full that the first element begins a new one
	for first := true; dec.More(); first = false {
		if !first {
			out.WriteByte(',')
		}
		name := ""
		if start == json.Delim('{') {
			name = fmt.Sprintf("%q: ", token())
		}
		var element json.RawMessage
		if err := dec.Decode(&element); err != nil {
			t.Fatal(err)
		}
		words := name == "" && element[0] == '"' // arrays of words fill their lines
		if !words || column+len(element)+2 > width {
			fmt.Fprintf(out, "\n%*s", indent+2, "")
			column = indent + 2
		} else {
			out.WriteByte(' ')
		}
		column += len(element) + 2
		out.WriteString(name)
		layoutJSON(t, out, element, indent+2)
	}
	fmt.Fprintf(out, "\n%*s%v", indent, "", token())
}

// lineDiff lists the lines that only one of the texts has.
func lineDiff(want, have string) string {
	count := map[string]int{}
	for l := range strings.Lines(want) {
		count[l]++
	}
	var added, removed strings.Builder
	for l := range strings.Lines(have) {
		if count[l]--; count[l] < 0 {
			added.WriteString("+" + l)
		}
	}
	for l := range strings.Lines(want) {
		if count[l] > 0 {
			count[l]--
			removed.WriteString("-" + l)
		}
	}
	return removed.String() + added.String()
}
