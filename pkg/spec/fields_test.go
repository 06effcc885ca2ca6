package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestDocs makes docs/task-definition.md and docs/service.md from Fields; -update writes
// them.
func TestDocs(t *testing.T) {
	golden(t, "../../docs/task-definition.md", fieldsDoc(KindTaskDefinition, reflect.TypeFor[TaskDefinition](),
		"Task definitions", `What becomes of each field of an ECS task definition here. A file holds what
`+"`aws ecs register-task-definition --cli-input-json`"+` takes, or what
`+"`aws ecs describe-task-definition`"+` prints, as YAML or JSON.`))
	golden(t, "../../docs/service.md", fieldsDoc(KindService, reflect.TypeFor[Service](),
		"Services", `What becomes of each field of an ECS service here. A file holds what
`+"`aws ecs create-service --cli-input-json`"+` takes, as YAML or JSON. Fields of requests that act on
a service or start a task are listed too: they have no place in a file.`))
}

// fieldsDoc writes the table of one kind.
func fieldsDoc(kind string, root reflect.Type, title, intro string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- Made from pkg/spec by `go test ./pkg/spec -run TestDocs -update`: do not edit. -->\n\n# %s\n\n%s\n", title, intro)
	b.WriteString(`
* **carried out**: ecsd does what Amazon ECS documents.
* **not yet**: accepted; the task runs without it, and ` + "`ecsd validate` and `ecsd status`" + ` say so.
* **no effect**: accepted; it means nothing outside AWS or on one node, and both say so.
* **refused**: an error, because a task without it would not be what was asked for.

`)
	counts := map[Support]int{}
	var rows strings.Builder
	for _, f := range Fields() {
		if f.Kind != kind {
			continue
		}
		counts[f.Support]++
		why := strings.ToUpper(f.Why[:1]) + strings.TrimSuffix(f.Why[1:], ".") + "."
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s |\n", f.Path, typeAt(root, f.Path), f.Support, strings.ReplaceAll(why, "|", "\\|"))
	}
	fmt.Fprintf(&b, "%d fields: %d carried out, %d not yet, %d without effect, %d refused.\n\n",
		counts[Carried]+counts[NotYet]+counts[NoEffect]+counts[Refused], counts[Carried], counts[NotYet], counts[NoEffect], counts[Refused])
	b.WriteString("| field | type | here | how, or why not |\n|---|---|---|---|\n")
	b.WriteString(rows.String())
	return []byte(b.String())
}

// typeAt is the JSON type of a field; empty for one that our types leave out.
func typeAt(t reflect.Type, path string) string {
	for _, part := range strings.Split(path, ".") {
		name := strings.TrimRight(part, "[]{}")
		index, ok := structInfoOf(t).byName[name]
		if !ok {
			return ""
		}
		t = t.Field(index).Type
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if strings.HasSuffix(part, "[]") || strings.HasSuffix(part, "{}") {
			t = t.Elem()
		}
		if t.Kind() == reflect.Interface {
			return "any"
		}
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Bool:
		return "boolean"
	default:
		return "string"
	}
}

func TestNotCarriedOut(t *testing.T) {
	docs, err := Load("a.yaml", []byte(`
family: a
memory: 64
taskRoleArn: r
placementConstraints: [{type: memberOf, expression: x}]
containerDefinitions:
- name: a
  image: b
  links: [b]
  disableNetworking: false
  portMappings: [{containerPort: 1, name: x, appProtocol: http}]
  logConfiguration: {logDriver: json-file, options: {max-size: 1m, compress: "true"}}
- {name: b, image: c}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"taskRoleArn: not carried out yet: tasks get no credentials of a role",
		"containerDefinitions[0].links: not carried out yet: Docker's variables for a link are not set; its names in /etc/hosts are, and the start order is kept",
		"containerDefinitions[0].portMappings[0].appProtocol: no effect: connections are passed on as they are: there is no proxy to tell",
		"placementConstraints: no effect: a standalone node is the only place there is",
		`containerDefinitions[0].logConfiguration.options["compress"]: not carried out yet: log files have a size and a number, no more`,
	}
	if got := docs[0].NotCarriedOut(); !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Spelling out the defaults is not using anything more.
	if got := NotCarriedOut(docs[0].TaskDefinition.Defaulted()); !slices.Equal(got, want) {
		t.Errorf("defaulted:\n%s", strings.Join(got, "\n"))
	}
	if got := NotCarriedOut(TaskDefinition{ContainerDefinitions: []ContainerDefinition{{Secrets: []Secret{{Name: "A", ValueFrom: "b"}}}}}); len(got) != 1 ||
		!strings.HasPrefix(got[0], "containerDefinitions[0].secrets: not carried out yet: ") {
		t.Errorf("secrets: %q", got)
	}
}
