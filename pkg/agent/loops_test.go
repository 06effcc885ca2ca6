package agent

import (
	"slices"
	"testing"

	"ecsd/pkg/manifest"
	"ecsd/pkg/spec"
)

// TestDesired: each service comes with the definition it names, in whatever form, and a
// definition that no service names runs as a service of its own; none runs twice.
func TestDesired(t *testing.T) {
	definition := func(family string) manifest.Definition {
		return manifest.Definition{TaskDefinition: spec.TaskDefinition{Family: family}, File: family + ".yaml"}
	}
	service := func(name, definition string) manifest.Service {
		return manifest.Service{Service: spec.Service{ServiceName: name, TaskDefinition: definition}, File: name + ".yaml"}
	}
	var got []string
	for _, d := range desired(manifest.Set{
		Definitions: []manifest.Definition{definition("alone"), definition("web"), definition("api")},
		Services:    []manifest.Service{service("front", "web"), service("back", "web:7"), service("rest", "api"), service("lost", "gone")},
	}) {
		got = append(got, d.Name+" runs "+d.Definition.Family+" of "+d.File)
	}
	want := []string{
		"front runs web of front.yaml", "back runs web of back.yaml", "rest runs api of rest.yaml",
		"alone runs alone of alone.yaml",
	}
	if !slices.Equal(got, want) {
		t.Errorf("desired:\n %q, want\n %q", got, want)
	}
}
