package reconcile

import (
	"strings"

	"ecsd/pkg/spec"
)

// Conditions of a dependency: ECS's four, and two that it implies.
const (
	condStart    = "START"
	condComplete = "COMPLETE"
	condSuccess  = "SUCCESS"
	condHealthy  = "HEALTHY"
	condCreate   = "CREATE" // volumesFrom: the source must have been created
)

// need is what one container waits for of another one of its task.
type need struct {
	on   string
	cond string
}

// needs lists what a container waits for: dependsOn, then links, which imply START, then
// volumesFrom, which implies that the source has been created, as the Amazon agent has it.
func needs(c spec.ContainerDefinition) []need {
	var out []need
	for _, d := range c.DependsOn {
		out = append(out, need{d.ContainerName, strings.ToUpper(d.Condition)})
	}
	for _, l := range c.Links {
		name, _, _ := strings.Cut(l, ":")
		out = append(out, need{name, condStart})
	}
	for _, v := range c.VolumesFrom {
		out = append(out, need{v.SourceContainer, condCreate})
	}
	return out
}

// dependants lists, for each container, those that need it.
func dependants(d spec.TaskDefinition) map[string][]string {
	out := map[string][]string{}
	for _, c := range d.ContainerDefinitions {
		for _, n := range needs(c) {
			out[n.on] = append(out[n.on], c.Name)
		}
	}
	return out
}

// cycle returns the names of containers that wait for one another in a ring, or nil.
func cycle(d spec.TaskDefinition) []string {
	const visiting, visited = 1, 2
	mark := map[string]int{}
	byName := map[string]spec.ContainerDefinition{}
	for _, c := range d.ContainerDefinitions {
		byName[c.Name] = c
	}
	var path, ring []string
	var visit func(name string) bool
	visit = func(name string) bool {
		switch mark[name] {
		case visited:
			return false
		case visiting:
			for i, p := range path {
				if p == name {
					ring = append(ring, path[i:]...)
				}
			}
			return true
		}
		mark[name] = visiting
		path = append(path, name)
		for _, n := range needs(byName[name]) {
			if _, known := byName[n.on]; known && visit(n.on) {
				return true
			}
		}
		path = path[:len(path)-1]
		mark[name] = visited
		return false
	}
	for _, c := range d.ContainerDefinitions {
		if visit(c.Name) {
			return ring
		}
	}
	return nil
}
