package spec

import (
	"fmt"
	"slices"
	"strings"
)

// order checks what makes containers wait for one another: dependsOn, links and
// volumesFrom. The first container of each name counts; names given twice are an error
// elsewhere.
func (v *validation) order(td TaskDefinition) {
	g := waitGraph{}
	for i := len(td.ContainerDefinitions) - 1; i >= 0; i-- {
		g[td.ContainerDefinitions[i].Name] = nil
	}
	for i, c := range td.ContainerDefinitions {
		p := at("containerDefinitions", i)
		for j, d := range c.DependsOn {
			v.dependency(td, c, d, at(p+".dependsOn", j), g)
			if slices.ContainsFunc(c.DependsOn[:j], func(e ContainerDependency) bool { return e.ContainerName == d.ContainerName }) {
				v.fail(at(p+".dependsOn", j)+".containerName", "%s is there twice", shown(d.ContainerName))
			}
		}
		for j, l := range c.Links {
			lp := at(p+".links", j)
			name, alias, aliased := strings.Cut(l, ":")
			if td.NetworkMode != NetworkBridge {
				v.fail(lp, "links are for networkMode bridge")
			} else if !validName(name) || aliased && !validHostname(alias) {
				v.fail(lp, "%s is not a link: write name or name:alias", shown(l))
			} else {
				v.waits(c, name, lp, g)
			}
		}
		for j, f := range c.VolumesFrom {
			v.waits(c, f.SourceContainer, at(p+".volumesFrom", j)+".sourceContainer", g)
		}
	}
	v.cycles(td, g)
}

// waitGraph says for whom each container waits, and where that is written.
type waitGraph map[string][]waitEdge

type waitEdge struct{ to, path string }

// waits adds an edge, if there is such a container and it is another one.
func (v *validation) waits(c ContainerDefinition, to, p string, g waitGraph) bool {
	switch _, known := g[to]; {
	case to == c.Name:
		v.fail(p, "a container cannot wait for itself")
		return false
	case !known:
		v.fail(p, "there is no container %s in the task%s", shown(to), didYouMean(to, g))
		return false
	}
	g[c.Name] = append(g[c.Name], waitEdge{to, p})
	return true
}

func didYouMean(name string, g waitGraph) string {
	var known []string
	for k := range g {
		known = append(known, k)
	}
	slices.Sort(known)
	if near := nearest(name, known); near != "" {
		return ": did you mean " + near + "?"
	}
	return ""
}

func (v *validation) dependency(td TaskDefinition, c ContainerDefinition, d ContainerDependency, p string, g waitGraph) {
	conditions := []string{ConditionStart, ConditionComplete, ConditionSuccess, ConditionHealthy}
	if !slices.Contains(conditions, d.Condition) {
		v.fail(p+".condition", "must be %s, not %q", orList(conditions), d.Condition)
	}
	if !v.waits(c, d.ContainerName, p+".containerName", g) {
		return
	}
	i := slices.IndexFunc(td.ContainerDefinitions, func(c ContainerDefinition) bool { return c.Name == d.ContainerName })
	switch target := td.ContainerDefinitions[i]; {
	case (d.Condition == ConditionComplete || d.Condition == ConditionSuccess) && target.IsEssential():
		v.fail(p+".condition", "%s waits for the end of %s, which is essential: the task would end with it; set its essential to false", d.Condition, shown(target.Name))
	case d.Condition == ConditionHealthy && !target.HasHealthCheck():
		v.fail(p+".condition", "HEALTHY waits for a health check, and %s has none", shown(target.Name))
	}
}

// cycles names each circle of waiting once, at the edge that closes it.
func (v *validation) cycles(td TaskDefinition, g waitGraph) {
	const open, done = 1, 2
	state := map[string]int{}
	var trail []string
	var visit func(name string)
	visit = func(name string) {
		state[name] = open
		trail = append(trail, name)
		for _, e := range g[name] {
			switch state[e.to] {
			case open:
				circle := append(slices.Clone(trail[slices.Index(trail, e.to):]), e.to)
				v.fail(e.path, "the containers wait for one another in a circle: %s", fmt.Sprint(strings.Join(circle, " → ")))
			case 0:
				visit(e.to)
			}
		}
		trail = trail[:len(trail)-1]
		state[name] = done
	}
	for _, c := range td.ContainerDefinitions {
		if state[c.Name] == 0 {
			visit(c.Name)
		}
	}
}
