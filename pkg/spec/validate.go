package spec

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Limits that ECS documents for a task definition.
const (
	maxDefinitionSize = 64 << 10 // bytes, as JSON
	maxContainers     = 10
	maxTags           = 50
	maxConstraints    = 10
)

// Validate returns everything that is wrong with a task definition, each error with the
// path of its field, by the rules that ECS documents, with its words where they are known,
// and by what ecsd cannot do yet (see Fields: what is Refused). The definition may be
// given as written: it is defaulted first. An empty result means that it can be run; the
// errors have no file and line, which Document.Check adds.
func Validate(td TaskDefinition) Errors {
	v := &validation{}
	v.refused(KindTaskDefinition, td)
	td = td.Defaulted()
	v.task(td)
	for i, c := range td.ContainerDefinitions {
		v.container(td, c, "containerDefinitions["+strconv.Itoa(i)+"]")
	}
	v.volumes(td)
	v.ports(td)
	v.order(td)
	v.amounts(td)
	return v.errs
}

// validation collects errors.
type validation struct{ errs Errors }

func (v *validation) fail(path, format string, args ...any) {
	v.errs = append(v.errs, &FieldError{Path: path, Reason: fmt.Sprintf(format, args...)})
}

// refused names the fields in use whose absence would make the object something else.
func (v *validation) refused(kind string, object any) {
	for _, f := range usesOf(kind, object) {
		if f.Support == Refused {
			v.fail(f.Path, "%s", f.Why)
		}
	}
}

// oneOf checks a field with an enumeration; empty is for others to judge.
func (v *validation) oneOf(path, value string, allowed ...string) {
	if value != "" && !slices.Contains(allowed, value) {
		v.fail(path, "must be %s, not %q", orList(allowed), value)
	}
}

// between checks a number's bounds; nil is fine.
func (v *validation) between(path string, value *int, low, high int, unit string) {
	if value != nil && (*value < low || *value > high) {
		v.fail(path, "must be between %d and %d%s, not %d", low, high, unit, *value)
	}
}

// name checks a name by the one rule that families, services, containers and volumes have.
func (v *validation) name(path, value, whatECSSays string) {
	switch {
	case value == "":
		v.fail(path, "%s", whatECSSays)
	case !validName(value):
		v.fail(path, "%s is not a name: %s", shown(value), nameRule)
	}
}

// task checks what belongs to no container.
func (v *validation) task(td TaskDefinition) {
	v.name("family", td.Family, "Family should not be null or empty.")
	switch td.NetworkMode {
	case NetworkAWSVPC:
		v.fail("networkMode", "%s", whyAWSVPC)
	default:
		v.oneOf("networkMode", td.NetworkMode, NetworkBridge, NetworkHost, NetworkNone)
	}
	v.oneOf("pidMode", td.PIDMode, "host", "task")
	v.oneOf("ipcMode", td.IPCMode, "host", "task", "none")
	for i, c := range td.RequiresCompatibilities {
		v.oneOf(at("requiresCompatibilities", i), c, "EC2", "FARGATE", "EXTERNAL", "MANAGED_INSTANCES")
	}
	if p := td.RuntimePlatform; p != nil {
		v.oneOf("runtimePlatform.cpuArchitecture", p.CPUArchitecture, "X86_64", "ARM64")
		if strings.HasPrefix(p.OperatingSystemFamily, "WINDOWS") {
			v.fail("runtimePlatform.operatingSystemFamily", "%s: this is Linux, which cannot run Windows containers", p.OperatingSystemFamily)
		} else {
			v.oneOf("runtimePlatform.operatingSystemFamily", p.OperatingSystemFamily, "LINUX")
		}
	}
	if e := td.EphemeralStorage; e != nil {
		v.between("ephemeralStorage.sizeInGiB", &e.SizeInGiB, 21, 200, " GiB")
	}
	v.constraints(td.PlacementConstraints, "memberOf")
	v.tags(td.Tags)

	switch n := len(td.ContainerDefinitions); {
	case n == 0:
		v.fail("containerDefinitions", "Container list cannot be empty.")
	case n > maxContainers:
		v.fail("containerDefinitions", "has %d containers: a task has at most %d", n, maxContainers)
	case !slices.ContainsFunc(td.ContainerDefinitions, ContainerDefinition.IsEssential):
		v.fail("containerDefinitions", "at least one container must be essential: the task lasts as long as it")
	}
	if text, err := json.Marshal(td); err == nil && len(text) > maxDefinitionSize {
		v.fail("", "the task definition has %d bytes as JSON: ECS takes at most %d", len(text), maxDefinitionSize)
	}
}

// constraints checks placement constraints, of a definition or of a service.
func (v *validation) constraints(list []PlacementConstraint, types ...string) {
	if len(list) > maxConstraints {
		v.fail("placementConstraints", "has %d constraints: at most %d are allowed", len(list), maxConstraints)
	}
	for i, c := range list {
		p := at("placementConstraints", i)
		if c.Type == "" {
			v.fail(p+".type", "is missing: it must be %s", orList(types))
		}
		v.oneOf(p+".type", c.Type, types...)
		switch {
		case c.Type == "distinctInstance" && c.Expression != "":
			v.fail(p+".expression", "distinctInstance takes no expression")
		case c.Type == "memberOf" && c.Expression == "":
			v.fail(p+".expression", "is missing: memberOf needs one")
		case len(c.Expression) > 2000:
			v.fail(p+".expression", "has %d characters: at most 2000 are allowed", len(c.Expression))
		}
	}
}

var validTag = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`).MatchString

// tags checks the tags of a definition or of a service.
func (v *validation) tags(tags []Tag) {
	if len(tags) > maxTags {
		v.fail("tags", "has %d tags: at most %d are allowed", len(tags), maxTags)
	}
	seen := map[string]bool{}
	for i, t := range tags {
		p := at("tags", i)
		switch key := t.Key; {
		case key == "" || len([]rune(key)) > 128 || !validTag(key):
			v.fail(p+".key", "%s is not a tag key: it has 1 to 128 letters, digits, spaces and _.:/=+-@", shown(key))
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			v.fail(p+".key", "%s: the prefix aws: is reserved", shown(key))
		case seen[key]:
			v.fail(p+".key", "the tag %s appears twice", shown(key))
		}
		seen[t.Key] = true
		if len([]rune(t.Value)) > 256 || !validTag(t.Value) {
			v.fail(p+".value", "is not a tag value: it has at most 256 letters, digits, spaces and _.:/=+-@")
		}
	}
}

// amounts checks CPU and memory: each, and their sums.
func (v *validation) amounts(td TaskDefinition) {
	cpu, err := parseCPU(td.CPU)
	switch {
	case td.CPU == "":
	case err != nil:
		v.fail("cpu", "%v", err)
	case cpu < minTaskCPU || cpu > maxTaskCPU:
		v.fail("cpu", "must be between %d and %d CPU units (1024 are one core), not %d", minTaskCPU, maxTaskCPU, cpu)
	}
	memory, err := parseMemory(td.Memory)
	switch {
	case td.Memory == "":
	case err != nil:
		v.fail("memory", "%v", err)
	case memory < minMemoryMiB:
		v.fail("memory", "must be at least %d MiB, not %d", minMemoryMiB, memory)
	}

	cpuSum, memorySum := 0, 0
	for i, c := range td.ContainerDefinitions {
		p := at("containerDefinitions", i)
		if c.CPU < 0 || c.CPU > maxTaskCPU {
			v.fail(p+".cpu", "must be between 0 and %d CPU units (1024 are one core), not %d", maxTaskCPU, c.CPU)
		}
		v.containerMemory(td, c, p, memory)
		cpuSum += min(max(c.CPU, 0), maxTaskCPU)
		memorySum += min(max(c.reservedMemory(), 0), maxMemoryMiB)
	}
	if cpu > 0 && cpuSum > cpu {
		v.fail("cpu", "is %d CPU units, but the containers ask for %d together", cpu, cpuSum)
	}
	if memory > 0 && memorySum > memory {
		v.fail("memory", "is %d MiB, but the containers reserve %d together", memory, memorySum)
	}
}

func (v *validation) containerMemory(td TaskDefinition, c ContainerDefinition, p string, task int) {
	for _, m := range []struct {
		field string
		mib   int
	}{{".memory", c.Memory}, {".memoryReservation", c.MemoryReservation}} {
		if m.mib != 0 && m.mib < minMemoryMiB || m.mib > maxMemoryMiB {
			v.fail(p+m.field, "must be at least %d MiB and at most %d, not %d", minMemoryMiB, maxMemoryMiB, m.mib)
		}
	}
	switch {
	case c.Memory == 0 && c.MemoryReservation == 0 && td.Memory == "":
		v.fail(p, "Invalid setting for container '%s'. At least one of 'memory' or 'memoryReservation' must be specified.", c.Name)
	case c.Memory > 0 && c.MemoryReservation >= c.Memory:
		v.fail(p+".memoryReservation", "is %d MiB: it must be less than memory, which is %d", c.MemoryReservation, c.Memory)
	case task > 0 && c.Memory > task:
		v.fail(p+".memory", "is %d MiB: it must not be more than the task's memory, which is %d", c.Memory, task)
	}
}

// at is the path of an element of a list.
func at(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// orList writes a choice: "a, b or c".
func orList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// shown quotes a value for an error, cut to a readable length.
func shown(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return fmt.Sprintf("%q… (%d characters)", string(r[:most]), len(r))
	}
	return strconv.Quote(s)
}
