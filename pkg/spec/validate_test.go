package spec

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestValidateServiceWithDefinition checks what a service says about its definition; what
// it says about itself is in testdata/errors/service.txtar.
func TestValidateServiceWithDefinition(t *testing.T) {
	td := load(t, "a.yaml", `
family: a
memory: 64
containerDefinitions:
- name: web
  image: b
  portMappings:
  - {containerPort: 80, name: http}
  - {containerPort: 443, hostPort: 8443, name: https}
  - {containerPortRange: 9000-9010, name: many}
`)[0].TaskDefinition
	for name, c := range map[string]struct {
		service string
		want    string
	}{
		"fine": {"serviceConnectConfiguration: {enabled: true, services: [{portName: http, clientAliases: [{port: 80}]}]}", ""},
		"unknown port": {"serviceConnectConfiguration: {enabled: true, services: [{portName: htp}]}",
			`serviceConnectConfiguration.services[0].portName: the task definition has no port mapping named "htp"`},
		"range": {"serviceConnectConfiguration: {enabled: true, services: [{portName: many}]}",
			`serviceConnectConfiguration.services[0].portName: "many" is a range of ports: a steady port stands before one`},
		"own port": {"serviceConnectConfiguration: {enabled: true, services: [{portName: https, clientAliases: [{port: 8443}]}]}",
			"serviceConnectConfiguration.services[0].clientAliases[0].port: 8443 is a host port of the tasks themselves: let them have dynamic ports (hostPort 0)"},
		"load balancer": {"loadBalancers: [{targetGroupArn: x, containerName: web, containerPort: 80}]", ""},
		"no container": {"loadBalancers: [{targetGroupArn: x, containerName: wbe, containerPort: 80}]",
			"loadBalancers[0].containerName: The container wbe does not exist in the task definition."},
		"no port": {"loadBalancers: [{targetGroupArn: x, containerName: web, containerPort: 81}]",
			"loadBalancers[0].containerPort: The container web did not have a container port 81 defined."},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, "s.yaml", "serviceName: s\ntaskDefinition: a\n"+c.service)[0].Service
			if got := ValidateService(*s, td).Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestDefinitionSize holds the limit that ECS sets, which counts the JSON form.
func TestDefinitionSize(t *testing.T) {
	td := TaskDefinition{Family: "a", Memory: "64", ContainerDefinitions: []ContainerDefinition{{Name: "a", Image: "b"}}}
	td.ContainerDefinitions[0].Environment = []KeyValuePair{{Name: "A", Value: strings.Repeat("x", maxDefinitionSize-1000)}}
	if errs := Validate(td); len(errs) != 0 {
		t.Errorf("just below: %v", errs)
	}
	td.ContainerDefinitions[0].Environment[0].Value += strings.Repeat("x", 1000)
	if errs := Validate(td); len(errs) != 1 || !strings.Contains(errs[0].Reason, "ECS takes at most 65536") {
		t.Errorf("above: %v", errs)
	}
}

// TestManyOfOneThing holds the limits on numbers of things.
func TestManyOfOneThing(t *testing.T) {
	base := func() TaskDefinition {
		return TaskDefinition{Family: "a", Memory: "64", ContainerDefinitions: []ContainerDefinition{{Name: "a", Image: "b"}}}
	}
	for name, c := range map[string]struct {
		change func(td *TaskDefinition)
		want   string
	}{
		"tags": {func(td *TaskDefinition) {
			for i := range 51 {
				td.Tags = append(td.Tags, Tag{Key: fmt.Sprint(i)})
			}
		}, "tags: has 51 tags: at most 50 are allowed"},
		"constraints": {func(td *TaskDefinition) {
			td.PlacementConstraints = slices.Repeat([]PlacementConstraint{{Type: "memberOf", Expression: "x"}}, 11)
		}, "placementConstraints: has 11 constraints: at most 10 are allowed"},
		"expression": {func(td *TaskDefinition) {
			td.PlacementConstraints = []PlacementConstraint{{Type: "memberOf", Expression: strings.Repeat("x", 2001)}}
		}, "placementConstraints[0].expression: has 2001 characters: at most 2000 are allowed"},
		"ranges": {func(td *TaskDefinition) {
			for i := range 101 {
				td.ContainerDefinitions[0].PortMappings = append(td.ContainerDefinitions[0].PortMappings,
					PortMapping{ContainerPortRange: fmt.Sprintf("%d-%d", 1000+10*i, 1005+10*i)})
			}
		}, "containerDefinitions[0].portMappings: has 101 port ranges: at most 100 are allowed"},
		"codes": {func(td *TaskDefinition) {
			yes := true
			td.ContainerDefinitions[0].RestartPolicy = &RestartPolicy{Enabled: &yes, IgnoredExitCodes: make([]int, 51)}
		}, "containerDefinitions[0].restartPolicy.ignoredExitCodes: has 51 codes: at most 50 are allowed"},
	} {
		td := base()
		c.change(&td)
		if got := Validate(td).Error(); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// TestValidateTakesTheDefaults finds nothing wrong with the defaults, and nothing else
// wrong with a definition that was defaulted before.
func TestValidateTakesTheDefaults(t *testing.T) {
	for _, text := range []string{webYAML, everything} {
		td := *load(t, "a.yaml", text)[0].TaskDefinition
		if errs := Validate(td.Defaulted()); len(errs) != 0 {
			t.Errorf("%v", errs)
		}
	}
	if errs := ValidateService(Service{ServiceName: "s", TaskDefinition: "a", SchedulingStrategy: StrategyDaemon}.Defaulted(), nil); len(errs) != 0 {
		t.Errorf("daemon: %v", errs)
	}
}
