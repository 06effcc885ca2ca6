package spec

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// everything uses most of what has a default.
const everything = `
family: web
revision: 7
status: ACTIVE
registeredAt: 2024-05-01T10:00:00Z
cpu: 1 vCPU
memory: .5GB
runtimePlatform: {cpuArchitecture: X86_64}
volumes:
- name: v
  dockerVolumeConfiguration: {}
containerDefinitions:
- name: a
  image: b
  portMappings: [{containerPort: 80}]
  mountPoints: [{sourceVolume: v, containerPath: /v}]
  healthCheck: {command: [CMD, x]}
  restartPolicy: {enabled: true}
  linuxParameters: {devices: [{hostPath: /dev/fuse}]}
`

func TestDefaulted(t *testing.T) {
	td := *load(t, "a.yaml", everything)[0].TaskDefinition
	before, _ := json.Marshal(td)
	got := td.Defaulted()
	if after, _ := json.Marshal(td); string(after) != string(before) {
		t.Errorf("defaulting changed its receiver:\n%s\n%s", before, after)
	}
	if again := got.Defaulted(); !reflect.DeepEqual(again, got) {
		t.Error("defaulting twice changes something")
	}
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/defaulted.golden.json", append(text, '\n'))

	host := td
	host.NetworkMode = NetworkHost
	if p := host.Defaulted().ContainerDefinitions[0].PortMappings[0]; p.HostPort != 80 {
		t.Errorf("on the host's network the port is %d", p.HostPort)
	}
}

func TestServiceDefaulted(t *testing.T) {
	replica := Service{ServiceName: "s", TaskDefinition: "a"}.Defaulted()
	if *replica.DesiredCount != 1 || *replica.DeploymentConfiguration.MinimumHealthyPercent != 100 || *replica.DeploymentConfiguration.MaximumPercent != 200 ||
		replica.SchedulingStrategy != StrategyReplica || replica.DeploymentController.Type != "ECS" || replica.DeploymentConfiguration.Strategy != "ROLLING" {
		t.Errorf("replica: %+v", replica)
	}
	daemon := Service{SchedulingStrategy: StrategyDaemon}.Defaulted()
	if daemon.DesiredCount != nil || *daemon.DeploymentConfiguration.MinimumHealthyPercent != 0 || *daemon.DeploymentConfiguration.MaximumPercent != 100 {
		t.Errorf("daemon: %+v", daemon)
	}
	zero, fifty := 0, 50
	given := Service{DesiredCount: &zero, DeploymentConfiguration: &DeploymentConfiguration{MinimumHealthyPercent: &fifty}}
	got := given.Defaulted()
	if *got.DesiredCount != 0 || *got.DeploymentConfiguration.MinimumHealthyPercent != 50 || *got.DeploymentConfiguration.MaximumPercent != 200 {
		t.Errorf("given: %+v", got)
	}
	if given.DeploymentConfiguration.MaximumPercent != nil {
		t.Error("defaulting changed its receiver")
	}
	for _, s := range []Service{replica, daemon, got} {
		if !reflect.DeepEqual(s, s.Defaulted()) {
			t.Errorf("defaulting twice changes %+v", s)
		}
	}
}

func TestContainerAccessors(t *testing.T) {
	no, five := false, 5
	if !(ContainerDefinition{}).IsEssential() || (ContainerDefinition{Essential: &no}).IsEssential() {
		t.Error("essential by default, and not when it says so")
	}
	if d := (ContainerDefinition{}).StopTimeoutOr(30 * time.Second); d != 30*time.Second {
		t.Errorf("the node's timeout: %v", d)
	}
	if d := (ContainerDefinition{StopTimeout: &five}).StopTimeoutOr(30 * time.Second); d != 5*time.Second {
		t.Errorf("its own timeout: %v", d)
	}
	for _, c := range []struct {
		check *HealthCheck
		want  bool
	}{{nil, false}, {&HealthCheck{}, false}, {&HealthCheck{Command: []string{"NONE"}}, false}, {&HealthCheck{Command: []string{"CMD", "x"}}, true}} {
		if got := (ContainerDefinition{HealthCheck: c.check}).HasHealthCheck(); got != c.want {
			t.Errorf("%+v: %v", c.check, got)
		}
	}
}

func TestHostPorts(t *testing.T) {
	td := TaskDefinition{ContainerDefinitions: []ContainerDefinition{
		{PortMappings: []PortMapping{{ContainerPort: 80, HostPort: 8080}, {ContainerPort: 81}, {ContainerPort: 53, HostPort: 53, Protocol: "udp"}}},
		{PortMappings: []PortMapping{{ContainerPortRange: "1-2"}}},
	}}
	want := []NetworkBinding{{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}, {ContainerPort: 53, HostPort: 53, Protocol: "udp"}}
	if got := HostPorts(td); !slices.Equal(got, want) {
		t.Errorf("bridge: %+v", got)
	}
	td = TaskDefinition{NetworkMode: NetworkHost, ContainerDefinitions: []ContainerDefinition{{PortMappings: []PortMapping{{ContainerPort: 80}}}}}
	if got := HostPorts(td); len(got) != 1 || got[0].HostPort != 80 {
		t.Errorf("host: %+v", got)
	}
}

// TestHash pins the hash: an upgrade that changes it rolls every service of every node.
func TestHash(t *testing.T) {
	td := *load(t, "a.yaml", everything)[0].TaskDefinition
	golden(t, "testdata/hash.golden", []byte(Hash(td)+"\n"+ContainerHash(td, "a")+"\n"))

	same := map[string]func(*TaskDefinition){
		"defaulted":            func(td *TaskDefinition) { *td = td.Defaulted() },
		"another form":         func(td *TaskDefinition) { td.CPU, td.Memory = "1024", "512" },
		"another revision":     func(td *TaskDefinition) { td.Revision, td.Status = 8, "INACTIVE" },
		"tags":                 func(td *TaskDefinition) { td.Tags = []Tag{{Key: "a"}} },
		"empty lists":          func(td *TaskDefinition) { td.PlacementConstraints = []PlacementConstraint{} },
		"defaults spelled out": func(td *TaskDefinition) { td.ContainerDefinitions[0].Privileged = new(bool) },
		"empty objects": func(td *TaskDefinition) {
			td.ContainerDefinitions[0].LinuxParameters.Capabilities = &KernelCapabilities{}
		},
	}
	other := map[string]func(*TaskDefinition){
		"family":          func(td *TaskDefinition) { td.Family = "x" },
		"image":           func(td *TaskDefinition) { td.ContainerDefinitions[0].Image = "c" },
		"a command":       func(td *TaskDefinition) { td.ContainerDefinitions[0].Command = []string{""} },
		"another command": func(td *TaskDefinition) { td.ContainerDefinitions[0].Command = []string{"", ""} },
		"essential":       func(td *TaskDefinition) { td.ContainerDefinitions[0].Essential = new(bool) },
		"swappiness 0":    func(td *TaskDefinition) { td.ContainerDefinitions[0].LinuxParameters.Swappiness = new(int) },
		"a variable":      func(td *TaskDefinition) { td.ContainerDefinitions[0].Environment = []KeyValuePair{{Name: "A"}} },
		"a label":         func(td *TaskDefinition) { td.ContainerDefinitions[0].DockerLabels = map[string]string{"a": ""} },
	}
	seen := map[string]string{Hash(td): "as it was"}
	for name, change := range same {
		c := deepCopy(t, td)
		if change(&c); Hash(c) != Hash(td) {
			t.Errorf("%s changes the hash", name)
		}
	}
	for name, change := range other {
		c := deepCopy(t, td)
		change(&c)
		if first, dup := seen[Hash(c)]; dup {
			t.Errorf("%s and %s have one hash", name, first)
		}
		seen[Hash(c)] = name
	}
}

// TestHashAndFormat changes what does not matter in a file: key order, comments, format.
func TestHashAndFormat(t *testing.T) {
	want := Hash(*load(t, "web.yaml", webYAML)[0].TaskDefinition)
	for _, text := range []string{
		strings.Replace(webYAML, "family: web\ncpu: .5 vCPU\nmemory: 1GB\n", "memory: 1024 # MiB\ncpu: 512\nfamily: \"web\"\n", 1),
		strings.Replace(webYAML, "    image: nginx:1.27\n    essential: true\n", "    # the server\n    essential: true\n    image: 'nginx:1.27'\n", 1),
		strings.Replace(webYAML, "    essential: true\n", "", 1),
	} {
		if text == webYAML {
			t.Fatal("nothing was changed")
		}
		if got := Hash(*load(t, "web.yaml", text)[0].TaskDefinition); got != want {
			t.Errorf("another hash for\n%s", text)
		}
	}
}

func TestContainerHash(t *testing.T) {
	td := *load(t, "web.yaml", webYAML)[0].TaskDefinition
	web, side := ContainerHash(td, "web"), ContainerHash(td, "side")
	if web == side {
		t.Error("two containers have one hash")
	}
	changed := deepCopy(t, td)
	changed.ContainerDefinitions[0].Image = "nginx:1.28"
	if ContainerHash(changed, "web") == web || ContainerHash(changed, "side") != side {
		t.Error("a container's hash must follow its own part and no other's")
	}
	changed = deepCopy(t, td)
	changed.Family = "other"
	if ContainerHash(changed, "web") != web {
		t.Error("the family is no part of a container")
	}
	changed.NetworkMode = NetworkHost
	if ContainerHash(changed, "side") == side {
		t.Error("the network mode is part of every container")
	}
}

func deepCopy(t *testing.T, td TaskDefinition) (c TaskDefinition) {
	t.Helper()
	if err := json.Unmarshal(mustMarshal(t, td), &c); err != nil {
		t.Fatal(err)
	}
	return c
}
