package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

const webYAML = `# a web server
family: web
cpu: .5 vCPU
memory: 1GB
containerDefinitions:
  - name: web
    image: nginx:1.27
    essential: true
    portMappings:
      - containerPort: 80
        hostPort: 8080
        name: http
    environment:
      - name: MODE
        value: "prod"
    dockerLabels:
      team.example/owner: a
    healthCheck:
      command: [CMD-SHELL, "curl -f localhost || exit 1"]
    logConfiguration:
      logDriver: json-file
      options: {max-size: 10m, max-file: "3"}
  - name: side
    image: busybox
    essential: false
    command: [sleep, "3600"]
    dependsOn: [{containerName: web, condition: HEALTHY}]
`

func load(t testing.TB, file, text string) []Document {
	t.Helper()
	docs, err := Load(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// TestFormats reads one definition in every form it may have.
func TestFormats(t *testing.T) {
	want := load(t, "web.yaml", webYAML)[0].TaskDefinition
	asJSON, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"web.json":       string(asJSON),
		"WEB.JSON":       string(asJSON),
		"flow.yaml":      string(asJSON),
		"-":              webYAML,
		"crlf.yml":       strings.ReplaceAll(webYAML, "\n", "\r\n"),
		"bom.yaml":       "\xef\xbb\xbf" + webYAML,
		"bom.json":       "\xef\xbb\xbf" + string(asJSON),
		"marker.yaml":    "---\n" + webYAML + "...\n---\n# the end\n",
		"described.json": `{"taskDefinition": ` + string(asJSON) + `, "tags": []}`,
		"envelope.yaml":  "apiVersion: ecsd/v1\nkind: TaskDefinition\nmetadata: {name: web}\nspec:\n  " + strings.ReplaceAll(webYAML, "\n", "\n  "),
	} {
		docs := load(t, file, text)
		if len(docs) != 1 || docs[0].Kind != KindTaskDefinition || docs[0].Name != "web" || docs[0].File != file {
			t.Errorf("%s: %+v", file, docs)
			continue
		}
		if got := docs[0].TaskDefinition; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", file, got)
		}
	}
}

func TestEnvelope(t *testing.T) {
	docs := load(t, "a.yaml", `
apiVersion: ecsd/v1
kind: Service
metadata:
  name: web
  labels: {app: web}
  annotations: {note: "x"}
spec:
  taskDefinition: web:3
  desiredCount: 2
`)
	d := docs[0]
	if d.Kind != KindService || d.Name != "web" || d.Service.ServiceName != "web" || *d.Service.DesiredCount != 2 {
		t.Errorf("got %+v", d)
	}
	if d.Labels["app"] != "web" || d.Annotations["note"] != "x" {
		t.Errorf("metadata: %v %v", d.Labels, d.Annotations)
	}
	if at := d.Positions.At("desiredCount"); at != (Position{Line: 10, Col: 17}) {
		t.Errorf("desiredCount is at %v", at)
	}
}

func TestPositions(t *testing.T) {
	for file, text := range map[string]string{
		"a.yaml": "family: web\ncontainerDefinitions:\n- name: é\n  dockerLabels: {\"a.b\": x}\n  command: [a, b]\n",
		"a.json": "{\"family\": \"web\",\n\"containerDefinitions\": [\n{ \"name\": \"é\",\n  \"dockerLabels\": {\"a.b\": \"x\"},\n  \"command\": [\"a\", \"b\"]}]}",
	} {
		docs, _ := Decode(file, []byte(text))
		p := docs[0].Positions
		for path, line := range map[string]int{
			"":                             1,
			"family":                       1,
			"containerDefinitions[0].name": 3,
			`containerDefinitions[0].dockerLabels["a.b"]`: 4,
			"containerDefinitions[0].command[1]":          5,
			"containerDefinitions[0].image":               3, // absent: its container
			"containerDefinitions[7].image":               p.At("containerDefinitions").Line,
		} {
			if at := p.At(path); at.Line != line || at.Col < 1 {
				t.Errorf("%s: %q is at %v, want line %d", file, path, at, line)
			}
		}
		// Columns count characters.
		name, labels := p.At("containerDefinitions[0].name"), p.At(`containerDefinitions[0].dockerLabels["a.b"]`)
		if file == "a.yaml" && (name.Col != 9 || labels.Col != 25) || file == "a.json" && (name.Col != 11 || labels.Col != 27) {
			t.Errorf("%s: columns %d and %d", file, name.Col, labels.Col)
		}
	}
	if at := (Positions{}).At("x"); at != (Position{}) {
		t.Errorf("no positions at all: %v", at)
	}
}

// TestPaths reads back what it writes.
func TestPaths(t *testing.T) {
	for _, path := range []string{"", "family", "a[0].b[12].c", `a["x.y[0]"].b`, `"odd key".b`, `a["\"\\"]`} {
		if got := renderPath(parsePath(path)); got != path {
			t.Errorf("%q comes back as %q", path, got)
		}
	}
	for _, broken := range []string{"a[", "a[x]", `a["x`, `"x`} {
		if got := parsePath(broken); len(got) > 1 {
			t.Errorf("%q is %v", broken, got)
		}
	}
}

func TestLimits(t *testing.T) {
	nest := func(n int, open, close string) string {
		return "{\"family\": " + strings.Repeat(open, n) + strings.Repeat(close, n) + "}"
	}
	for name, c := range map[string]struct {
		file string
		data string
		want string
	}{
		"large":            {"a.yaml", strings.Repeat("#", maxFileSize+1), "a.yaml:1:1: has 1048577 bytes: at most 1048576 are allowed"},
		"NUL":              {"a.yaml", "family: web\nx: \x00", "a.yaml:2:4: holds a NUL byte: it is not text"},
		"bad UTF-8":        {"a.json", "{\n \"é\": \"\xff\"}", "a.json:2:8: is not UTF-8 text"},
		"UTF-16":           {"a.yaml", "\xff\xfef\x00", "a.yaml:1:1: is not UTF-8 text"},
		"deep flow":        {"a.yaml", nest(65, "[", "]"), "is nested deeper than 64 levels"},
		"deep json":        {"a.json", nest(65, "[", "]"), "is nested deeper than 64 levels"},
		"deep objects":     {"a.json", nest(65, `{"a":`, "}"), "is nested deeper than 64 levels"},
		"very deep yaml":   {"a.yaml", strings.Repeat("[", 9999), "a.yaml:1:1: is not valid YAML"},
		"very deep json":   {"a.json", strings.Repeat("[", 1<<20), "is nested deeper than 64 levels"},
		"very deep block":  {"a.yaml", strings.Repeat("- ", 9000), "is nested deeper than 64 levels"},
		"file name":        {"a\nb.yaml", "", `"a\nb.yaml":1:1: is empty`},
		"many keys":        {"a.json", "{" + strings.Repeat(`"a":1,`, 100) + `"b":1}`, "the key a appears twice (first in line 1)"},
		"many other keys":  {"a.yaml", "family: x\n" + strings.Repeat("k: 1\n", 100), "the key k appears twice (first in line 2)"},
		"long unknown key": {"a.yaml", "family: x\n" + strings.Repeat("k", 200) + ": 1\n", "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			docs, err := Load(c.file, []byte(c.data))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if len(docs) > 1 {
				t.Errorf("%d documents", len(docs))
			}
		})
	}
	// At the limit all is well: it is the content that is wrong.
	if _, err := Decode("a.json", []byte(nest(63, "[", "]"))); strings.Contains(err.Error(), "nested") {
		t.Errorf("64 levels: %v", err)
	}
}

func TestErrorsAsErrors(t *testing.T) {
	_, err := Load("a.yaml", []byte("family: a/b\nmemory: 1\ncontainerDefinitions: [{name: a}]"))
	var list Errors
	if !errors.As(err, &list) || len(list) != 3 {
		t.Fatalf("got %#v", err)
	}
	var one *FieldError
	if !errors.As(err, &one) || one.Line != 1 || one.Path != "family" {
		t.Errorf("first: %+v", one)
	}
	if Errors(nil).Err() != nil {
		t.Error("no errors are not a nil error")
	}
	if got := (&FieldError{Path: "a", Reason: "b"}).Error(); got != "a: b" {
		t.Errorf("without a file: %q", got)
	}
	if got := (&FieldError{File: "f", Reason: "b"}).Error(); got != "f: b" {
		t.Errorf("without a line: %q", got)
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"imagr": "image", "iamge": "image", "comand": "command", "x": "", "zzzzzz": "", "entrypoint": "entryPoint",
		"healtCheck": "healthCheck", "portmapping": "portMappings",
	} {
		if got := nearest(name, structInfoOf(reflect.TypeFor[ContainerDefinition]()).names); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// FuzzDecode feeds files of any content to the decoder and the checks: neither may panic,
// and what they accept comes out the same after it was written and read again.
func FuzzDecode(f *testing.F) {
	f.Add(false, []byte(webYAML))
	f.Add(false, []byte("a: &a [*a]\n---\nfamily: x"))
	f.Add(true, []byte(`{"taskDefinition": {"family": "a", "memory": 64, "containerDefinitions": [{"name": "a", "image": "b"}]}, "tags": [{"key": "x"}]}`))
	f.Add(true, []byte(`{"serviceName": "s", "taskDefinition": "a:1", "desiredCount": 2, "deploymentConfiguration": {"lifecycleHooks": [{"hookDetails": {"a": [1.5e3]}}]}}`))
	f.Fuzz(func(t *testing.T, isJSON bool, data []byte) {
		file := "f.yaml"
		if isJSON {
			file = "f.json"
		}
		docs, err := Load(file, data)
		for _, d := range docs {
			d.NotCarriedOut()
			if err != nil {
				continue
			}
			again := reread(t, d)
			if before, after := mustJSON(t, d), mustJSON(t, again); !bytes.Equal(before, after) {
				t.Fatalf("%s\nbecame\n%s", before, after)
			}
			if d.TaskDefinition == nil {
				continue
			}
			if Hash(*d.TaskDefinition) != Hash(*again.TaskDefinition) {
				t.Fatal("another hash")
			}
			once := d.TaskDefinition.Defaulted()
			if !reflect.DeepEqual(once, once.Defaulted()) {
				t.Fatal("defaulting is not idempotent")
			}
			if Hash(once) != Hash(*d.TaskDefinition) {
				t.Fatal("defaults change the hash")
			}
		}
	})
}

func mustJSON(t *testing.T, d Document) []byte {
	t.Helper()
	var object any = d.TaskDefinition
	if d.Service != nil {
		object = d.Service
	}
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func reread(t *testing.T, d Document) Document {
	t.Helper()
	docs, err := Load("again.json", mustJSON(t, d))
	if err != nil || len(docs) != 1 {
		t.Fatalf("%s\nis refused when written: %v", mustJSON(t, d), err)
	}
	return docs[0]
}

// FuzzJSON holds our JSON parser against the standard library's: both take the same texts
// and read the same out of them, but for depth and repeated keys.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a": [1, -0.5e+3, "x\u00e9\ud83d\ude80\n", true, false, null]}`, `[]`, `{"a":1,}`, `"\ud800"`, `01`, `1.`, `-`, `{"a":1}{}`, ` [1] `} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if badByte([]byte(s)) >= 0 {
			return
		}
		nodes, errs := parseJSON([]byte(s))
		for _, e := range errs {
			if strings.Contains(e.Reason, "nested deeper") || strings.Contains(e.Reason, "appears twice") {
				return
			}
		}
		// A lone surrogate is the one escape that we refuse and the library mends.
		valid := json.Valid([]byte(s)) && !strings.Contains(s, `\u`)
		if ours := len(errs) == 0 && len(nodes) == 1; ours != valid && !strings.Contains(s, `\u`) {
			t.Fatalf("%q: we say %v (%v), encoding/json says %v", s, ours, errs, valid)
		}
		if !valid {
			return
		}
		var theirs any
		if err := json.Unmarshal([]byte(s), &theirs); err != nil {
			return // a number too large for a float
		}
		b := &binder{}
		if ours := b.free(&nodes[0]); len(b.errs) == 0 && !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("%q: we read %#v, encoding/json %#v", s, ours, theirs)
		}
	})
}

// BenchmarkLoad reads one file, as a directory of 10,000 does many times.
func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(webYAML)))
	for b.Loop() {
		if _, err := Load("web.yaml", []byte(webYAML)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadJSON(b *testing.B) {
	data := mustMarshal(b, load(b, "web.yaml", webYAML)[0].TaskDefinition)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Load("web.json", data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	td := *load(b, "web.yaml", webYAML)[0].TaskDefinition
	b.ReportAllocs()
	for b.Loop() {
		Hash(td)
	}
}

func mustMarshal(tb testing.TB, v any) []byte {
	tb.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
