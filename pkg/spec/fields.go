package spec

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
)

// Support says what becomes of a field.
type Support int

// What can become of a field. Nothing that a file says is dropped in silence: what is
// accepted without effect is named by NotCarriedOut, what would make a task wrong or
// unsafe by its absence is refused.
const (
	Carried  Support = iota // ecsd does what ECS documents
	NotYet                  // accepted and said: the task runs without it
	NoEffect                // accepted and said: it has no meaning outside AWS, or on one node
	Refused                 // an error: a task without it would not be what was asked for
)

// String is the word that documents use.
func (s Support) String() string {
	return [...]string{"carried out", "not yet", "no effect", "refused"}[s]
}

// Field is one field of the ECS API and what becomes of it here.
type Field struct {
	Kind    string // KindTaskDefinition or KindService
	Path    string // with [] for any element and {} for any key: containerDefinitions[].dockerLabels{}
	Support Support
	Why     string // what is done with it, or why nothing is
}

// says is what an operator reads when a file uses the field.
func (f Field) says() string {
	switch f.Support {
	case NotYet:
		return "not carried out yet: " + f.Why
	case NoEffect:
		return "no effect: " + f.Why
	default:
		return f.Why
	}
}

// Fields lists every field of task definitions and services, in the order of the API's
// documents. docs/task-definition.md and docs/service.md are made from it.
func Fields() []Field {
	fields := make([]Field, 0, len(taskDefinitionFields)+len(serviceFields))
	for _, r := range taskDefinitionFields {
		fields = append(fields, Field{KindTaskDefinition, r.path, r.support, r.why})
	}
	for _, r := range serviceFields {
		fields = append(fields, Field{KindService, r.path, r.support, r.why})
	}
	return fields
}

// NotCarriedOut names the members that a definition uses and that have no effect here, or
// not yet, each with the reason:
//
//	containerDefinitions[0].links: not carried out yet: Docker's variables for a link are not set; …
//
// Members that Validate refuses are in it too. Members with the value they have anyway
// (false) are not used.
func NotCarriedOut(td TaskDefinition) []string {
	said := usesOf(KindTaskDefinition, td).all()
	for i, c := range td.ContainerDefinitions {
		if l := c.LogConfiguration; l != nil {
			for _, k := range sortedKeys(l.Options) {
				if k != "max-size" && k != "max-file" {
					said = append(said, fmt.Sprintf("containerDefinitions[%d].logConfiguration.options[%q]: not carried out yet: %s", i, k, whyLogOption))
				}
			}
		}
	}
	return said
}

// ServiceNotCarriedOut is NotCarriedOut for a service.
func ServiceNotCarriedOut(s Service) []string { return usesOf(KindService, s).all() }

// uses are the fields that a value uses and that are not carried out, with their paths in
// that value.
type uses []Field

// all says every one of them.
func (u uses) all() []string {
	var said []string
	for _, f := range u {
		said = append(said, f.Path+": "+f.says())
	}
	return said
}

// usesOf finds the fields that a TaskDefinition or Service uses and that are not carried
// out. Where all that is below a field shares one reason, it speaks of the field and not
// of its parts.
func usesOf(kind string, object any) uses {
	u := usage{kind: kind}
	u.walk(reflect.ValueOf(object))
	return u.found
}

// usage is a walk in progress.
type usage struct {
	kind  string
	steps []pathStep
	found uses
}

func (u *usage) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			u.walk(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if !used(f) {
				continue
			}
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			u.steps = append(u.steps, pathStep{name: name})
			if field, ok := fieldAt(u.kind, genericPath(u.steps)); !ok {
				u.walk(f)
			} else if field.Support != Carried {
				field.Path = renderPath(u.steps)
				u.found = append(u.found, field)
			}
			u.steps = u.steps[:len(u.steps)-1]
		}
	case reflect.Slice:
		for i := range v.Len() {
			u.steps = append(u.steps, pathStep{index: i, kind: indexStep})
			u.walk(v.Index(i))
			u.steps = u.steps[:len(u.steps)-1]
		}
	}
}

// used reports whether a member says anything: false and empty say what is so anyway.
func used(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && (v.Elem().Kind() != reflect.Bool || v.Elem().Bool())
	case reflect.Slice, reflect.Map:
		return v.Len() > 0
	default:
		return !v.IsZero()
	}
}

// fieldAt finds what is to be said of a path: its own row, or the one reason that all rows
// below it share. ok is false where rows below differ, or where there are none.
func fieldAt(kind, path string) (Field, bool) {
	f, ok := fieldIndex()[[2]string{kind, path}]
	return f, ok
}

// fieldIndex holds Fields by kind and path, and every path above rows of one mind.
var fieldIndex = sync.OnceValue(func() map[[2]string]Field {
	index := map[[2]string]Field{}
	mixed := map[[2]string]bool{}
	for _, f := range Fields() {
		index[[2]string{f.Kind, strings.TrimRight(f.Path, "[]{}")}] = f
		for _, above := range pathsAbove(f.Path) {
			key := [2]string{f.Kind, above}
			prior, seen := index[key]
			if mixed[key] || seen && (prior.Support != f.Support || prior.Why != f.Why) {
				mixed[key] = true
				delete(index, key)
				continue
			}
			index[key] = Field{f.Kind, above, f.Support, f.Why}
		}
	}
	return index
})

// pathsAbove lists what a path is part of: a[].b.c{} is part of a[].b and a.
func pathsAbove(path string) []string {
	var above []string
	for i := range path {
		if path[i] == '.' {
			above = append(above, strings.TrimRight(path[:i], "[]{}"))
		}
	}
	return above
}

// genericPath writes steps as Field.Path does, without what ends it: a[].b.
func genericPath(steps []pathStep) string {
	var b strings.Builder
	for i, s := range steps {
		switch s.kind {
		case indexStep:
			b.WriteString("[]")
		case keyStep:
			b.WriteString("{}")
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.name)
		}
	}
	return strings.TrimRight(b.String(), "[]{}")
}
