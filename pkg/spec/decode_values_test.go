package spec

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// TestJSONStrings reads every kind of escape.
func TestJSONStrings(t *testing.T) {
	for text, want := range map[string]string{
		`"plain é"`:             "plain é",
		`"\"\\\/\b\f\n\r\t"`:    "\"\\/\b\f\n\r\t",
		`"a\u00e9b\u0041"`:      "aébA",
		`"\ud83d\ude80 rocket"`: "🚀 rocket",
	} {
		nodes, errs := parseJSON([]byte(text))
		if len(errs) > 0 || nodes[0].text != want {
			t.Errorf("%s is %q (%v), want %q", text, nodes[0].text, errs, want)
		}
	}
	for _, bad := range []string{`"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"\ude80"`, `"\u12"`, `"\u12g4"`, `"\u+123"`, `"\q"`, `"\`, `"abc`, "\"a\nb\"", "\"\\n\x01\""} {
		if _, errs := parseJSON([]byte(bad)); len(errs) == 0 {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestJSONSyntax(t *testing.T) {
	for _, bad := range []string{"tru", "nul", "truex", "-", "-a", "1.", "1e", "1e+", "01", "+1", ".5", "[1 2]", `{"a" 1}`, `{"a":}`, `{"a":1 "b":2}`, "{,}", "[,]", "[", "{", `{"a":`, "]"} {
		if _, errs := parseJSON([]byte(bad)); len(errs) != 1 || !strings.Contains(errs[0].Reason, "is not valid JSON") {
			t.Errorf("%s: %v", bad, errs)
		}
	}
}

// TestManyKeys reads an object with more keys than are looked through one by one.
func TestManyKeys(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"memory": "1"`)
	for i := range 5000 {
		fmt.Fprintf(&b, ",\n\"k%d\": 1", i)
	}
	b.WriteString(",\n\"k4000\": 2}")
	nodes, errs := parseJSON([]byte(b.String()))
	if len(errs) != 1 || errs[0].Reason != "the key k4000 appears twice (first in line 4002)" || errs[0].Line != 5002 {
		t.Errorf("got %v", errs)
	}
	if len(nodes[0].keys) != 5001 {
		t.Errorf("%d keys", len(nodes[0].keys))
	}
}

// TestOddValues decodes values that few definitions have.
func TestOddValues(t *testing.T) {
	for text, want := range map[string]string{
		"serviceName: s\ntaskDefinition: a\ndeploymentConfiguration: {linearConfiguration: {stepPercent: 2.5}}":  "deploymentConfiguration.linearConfiguration: not carried out yet: deployments other than ROLLING",
		"serviceName: s\ntaskDefinition: a\ndeploymentConfiguration: {linearConfiguration: {stepPercent: .inf}}": "stepPercent: must be a decimal number, not .inf",
		"serviceName: s\ntaskDefinition: a\ndeploymentConfiguration: {linearConfiguration: {stepPercent: half}}": `stepPercent: must be a decimal number, not "half"`,
		"serviceName: s\ntaskDefinition: a\ndeploymentConfiguration: {maximumPercent: [1]}":                      "deploymentConfiguration.maximumPercent: must be a whole number, not a list",
		"family: a\nregisteredAt: .nan\ncontainerDefinitions: []":                                                "registeredAt: must be a decimal number, not .nan",
		"family: a\n[x]: y\ncontainerDefinitions: []":                                                            "2:1: a key must be a plain word, not a list or mapping",
		"family: a\n~: y\ncontainerDefinitions: []":                                                              "2:1: the key ~ is not a string: write it in quotes",
		"family: a\ncontainerDefinitions: [{name: a, dockerLabels: {\"a\\0\": x}}]":                              "the key holds a NUL character",
		"family: a\ncontainerDefinitions: [{name: a, dockerLabels: [x]}]":                                        "containerDefinitions[0].dockerLabels: must be a mapping of strings, not a list",
		"family: a\n? {a: b}\n: c":                            "a key must be a plain word, not a list or mapping",
		"desiredCount: 1\nserviceNam: x":                      `serviceNam: unknown field: did you mean "serviceName"?`,
		"family: a\n\"odd key\": x\ncontainerDefinitions: []": `"odd key": unknown field`,
	} {
		_, err := Load("a.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// TestFreeForm keeps a value whose form ECS leaves open as it is.
func TestFreeForm(t *testing.T) {
	docs, _ := Decode("a.yaml", []byte(`
serviceName: s
deploymentConfiguration:
  lifecycleHooks:
  - hookDetails: {a: [1, x, true, ~, {b: 1.5}]}
`))
	want := map[string]any{"a": []any{1.0, "x", true, nil, map[string]any{"b": 1.5}}}
	if got := docs[0].Service.DeploymentConfiguration.LifecycleHooks[0].HookDetails; !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v", got)
	}
}

// TestAliases puts the same value in two places, and a key by alias in a third.
func TestAliases(t *testing.T) {
	docs := load(t, "a.yaml", `
family: &f web
memory: 64
containerDefinitions:
- name: *f
  image: x
  environment: &env [{name: A, value: "1"}]
  dockerLabels: {*f : x}
- {name: other, image: x, environment: *env}
`)
	c := docs[0].TaskDefinition.ContainerDefinitions
	if c[0].Name != "web" || c[0].DockerLabels["web"] != "x" || !reflect.DeepEqual(c[0].Environment, c[1].Environment) || len(c[1].Environment) != 1 {
		t.Errorf("got %+v", c)
	}
}
