package spec

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// ecsModel is the part of the API's service model that these tests read.
type ecsModel struct {
	Shapes map[string]ecsShape `json:"shapes"`
}

type ecsShape struct {
	Type    string            `json:"type"`
	Members map[string]ecsRef `json:"members"`
	Member  ecsRef            `json:"member"`
	Value   ecsRef            `json:"value"`
	Enum    []string          `json:"enum"`
}

type ecsRef struct {
	Shape string `json:"shape"`
}

func readModel(t *testing.T) ecsModel {
	t.Helper()
	data, err := os.ReadFile("testdata/ecs-model.json")
	if err != nil {
		t.Fatal(err)
	}
	var m ecsModel
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// shape merges shapes: a TaskDefinition of ours is what RegisterTaskDefinition takes and
// what DescribeTaskDefinition prints.
func (m ecsModel) shape(t *testing.T, names ...string) ecsShape {
	t.Helper()
	merged := ecsShape{Type: "structure", Members: map[string]ecsRef{}}
	for _, name := range names {
		s, ok := m.Shapes[name]
		if !ok {
			t.Fatalf("the model has no shape %s", name)
		}
		for member, ref := range s.Members {
			merged.Members[member] = ref
		}
	}
	return merged
}

var (
	taskDefinitionShapes = []string{"RegisterTaskDefinitionRequest", "TaskDefinition"}
	serviceShapes        = []string{"CreateServiceRequest"}
)

// TestTypesAgainstTheModel holds our types against the API's model: every JSON name of
// ours exists there and is of that kind. What the model has and our types do not is
// listed in testdata/not_carried.golden, so that a new one is noticed.
func TestTypesAgainstTheModel(t *testing.T) {
	m := readModel(t)
	c := comparison{t: t, model: m}
	c.compare("TaskDefinition", reflect.TypeFor[TaskDefinition](), m.shape(t, taskDefinitionShapes...))
	c.compare("Service", reflect.TypeFor[Service](), m.shape(t, serviceShapes...))
	slices.Sort(c.left)
	golden(t, "testdata/not_carried.golden", []byte(strings.Join(c.left, "\n")+"\n"))
	if c.compared < 200 {
		t.Errorf("compared only %d members: the walk has lost its way", c.compared)
	}
}

type comparison struct {
	t        *testing.T
	model    ecsModel
	left     []string // members of the model that our types do not have
	compared int
}

func (c *comparison) compare(path string, ours reflect.Type, theirs ecsShape) {
	c.compared++
	for ours.Kind() == reflect.Pointer {
		ours = ours.Elem()
	}
	kinds := map[string][]reflect.Kind{
		"structure": {reflect.Struct, reflect.Interface},
		"list":      {reflect.Slice},
		"map":       {reflect.Map},
		"string":    {reflect.String},
		"boolean":   {reflect.Bool},
		"integer":   {reflect.Int, reflect.Int64},
		"double":    {reflect.Float64},
		"timestamp": {reflect.Interface},
	}
	if !slices.Contains(kinds[theirs.Type], ours.Kind()) {
		c.t.Errorf("%s is a %s, and %s in the model", path, ours.Kind(), theirs.Type)
		return
	}
	switch ours.Kind() {
	case reflect.Slice:
		c.compare(path+"[]", ours.Elem(), c.model.Shapes[theirs.Member.Shape])
	case reflect.Map:
		c.compare(path+"{}", ours.Elem(), c.model.Shapes[theirs.Value.Shape])
	case reflect.Struct:
		info := structInfoOf(ours)
		for _, name := range info.names {
			ref, ok := theirs.Members[name]
			if !ok {
				c.t.Errorf("%s.%s is not in the model", path, name)
				continue
			}
			c.compare(path+"."+name, ours.Field(info.byName[name]).Type, c.model.Shapes[ref.Shape])
		}
		for name := range theirs.Members {
			if _, ok := info.byName[name]; !ok {
				c.left = append(c.left, path+"."+name)
			}
		}
	}
}

// leaves lists the paths below a shape that hold a value, as Field.Path writes them.
func (m ecsModel) leaves(path string, s ecsShape, into map[string]bool) {
	switch s.Type {
	case "list":
		m.leaves(path+"[]", m.Shapes[s.Member.Shape], into)
	case "map":
		into[path+"{}"] = true
	case "structure":
		if len(s.Members) == 0 {
			into[path] = true
		}
		for name, ref := range s.Members {
			m.leaves(strings.TrimPrefix(path+"."+name, "."), m.Shapes[ref.Shape], into)
		}
	default:
		into[path] = true
	}
}

// TestFieldsAgainstTheModel holds the table of fields against the API's model: every
// field that a request can have has a row, and every row is a field of a request.
func TestFieldsAgainstTheModel(t *testing.T) {
	m := readModel(t)
	for kind, shapes := range map[string]struct{ must, may []string }{
		KindTaskDefinition: {[]string{"RegisterTaskDefinitionRequest"}, []string{"RegisterTaskDefinitionRequest"}},
		KindService:        {serviceShapes, []string{"CreateServiceRequest", "UpdateServiceRequest", "RunTaskRequest"}},
	} {
		must, may := map[string]bool{}, map[string]bool{}
		m.leaves("", m.shape(t, shapes.must...), must)
		for _, s := range shapes.may {
			m.leaves("", m.shape(t, s), may)
		}
		for _, f := range Fields() {
			if f.Kind != kind {
				continue
			}
			if !may[f.Path] {
				t.Errorf("%s %s is not in the model, or there twice", kind, f.Path)
			}
			delete(must, f.Path)
			delete(may, f.Path)
			if f.Why == "" {
				t.Errorf("%s %s has no reason", kind, f.Path)
			}
		}
		for path := range must {
			t.Errorf("%s %s has no row", kind, path)
		}
	}
}
