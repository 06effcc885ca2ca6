package spec

import "testing"

func TestQuantities(t *testing.T) {
	for _, c := range []struct {
		cpu  string
		want int // -1: an error
	}{
		{"256", 256}, {"1 vCPU", 1024}, {".5 vCPU", 512}, {"0.25 vcpu", 256}, {"2vCPU", 2048}, {"1. vCPU", 1024}, {"0", 0},
		{"", -1}, {"vCPU", -1}, {". vCPU", -1}, {"-1", -1}, {"-1 vCPU", -1}, {"+1", -1}, {"0256", -1}, {"0x100", -1}, {"256.5", -1},
		{"1e3", -1}, {"1e3 vCPU", -1}, {"1_000", -1}, {"0.3 vCPU", -1}, {" 256", -1}, {"1 GB", -1}, {"99999999999999999999", -1},
		{"99999999999999 vCPU", -1}, {"1/2 vCPU", -1}, {"1.2.3 vCPU", -1}, {"٣", -1},
	} {
		got, err := parseCPU(c.cpu)
		if err != nil {
			got = -1
		}
		if got != c.want {
			t.Errorf("cpu %q is %d (%v), want %d", c.cpu, got, err, c.want)
		}
	}
	for memory, want := range map[string]int{"512": 512, "1GB": 1024, "1 gb": 1024, "0.5GB": 512, "16 GB": 16384, "1GiB": -1, "1 vCPU": -1, "0.3 GB": -1} {
		got, err := parseMemory(memory)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("memory %q is %d (%v), want %d", memory, got, err, want)
		}
	}
}

func TestReserved(t *testing.T) {
	for name, c := range map[string]struct {
		td          TaskDefinition
		cpu, memory int
	}{
		"nothing": {TaskDefinition{}, 0, 0},
		"the task's": {TaskDefinition{CPU: "1 vCPU", Memory: "1GB", ContainerDefinitions: []ContainerDefinition{
			{CPU: 100, Memory: 200, MemoryReservation: 100}}}, 1024, 1024},
		"the containers'": {TaskDefinition{ContainerDefinitions: []ContainerDefinition{
			{CPU: 100, Memory: 200, MemoryReservation: 50}, {CPU: 28, Memory: 64}}}, 128, 114},
		"unreadable": {TaskDefinition{CPU: "lots", Memory: "more", ContainerDefinitions: []ContainerDefinition{{CPU: 1, Memory: 6}}}, 1, 6},
	} {
		if got := c.td.ReservedCPU(); got != c.cpu {
			t.Errorf("%s: cpu %d, want %d", name, got, c.cpu)
		}
		if got := c.td.ReservedMemoryMiB(); got != c.memory {
			t.Errorf("%s: memory %d, want %d", name, got, c.memory)
		}
	}
}

func TestParseTaskDefinitionRef(t *testing.T) {
	for ref, want := range map[string]struct {
		family   string
		revision int
		ok       bool
	}{
		"web":   {"web", 0, true},
		"web:3": {"web", 3, true},
		"arn:aws:ecs:eu-west-1:123456789012:task-definition/web:3":   {"web", 3, true},
		"arn:aws-cn:ecs:cn-north-1:123456789012:task-definition/web": {"web", 0, true},
		"":        {},
		"a b":     {},
		"web:0":   {},
		"web:03":  {},
		"web:x":   {},
		"web:1:2": {},
		"web:":    {},
		"arn:aws:ecs:eu-west-1:123456789012:service/web":          {},
		"arn:aws:s3:eu-west-1:123456789012:task-definition/web:3": {},
		"arn:aws:ecs:web": {},
	} {
		family, revision, ok := ParseTaskDefinitionRef(ref)
		if ok != want.ok || ok && (family != want.family || revision != want.revision) {
			t.Errorf("%q is %q %d %v, want %+v", ref, family, revision, ok, want)
		}
	}
}
