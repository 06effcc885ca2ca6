package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Hash is a fingerprint of what a definition means, 64 hex digits. Two definitions have
// the same one when they ask for the same thing: neither the order of keys, comments nor
// the format of the file matter, nor whether defaults are spelled out, nor tags, nor what
// a control plane adds (revision, ARN, …).
//
// It must stay the same from one ecsd to the next, or an upgrade would roll every service
// (promise P1): a new field must be left out of it while it has its zero value, which is
// what hashing does, and a new default must not be filled in by Defaulted for definitions
// that do not speak of it. A golden test holds it still.
func Hash(td TaskDefinition) string {
	td = td.Defaulted()
	td.Tags = nil
	return hashOf(td)
}

// ContainerHash is a fingerprint of all that one container of a definition is made from:
// its own part, and what the task gives it (network, pid and ipc mode, volumes, the
// task's limits). It is what runtime.Container.SpecHash holds.
func ContainerHash(td TaskDefinition, name string) string {
	td = td.Defaulted()
	td.ContainerDefinitions = slices.DeleteFunc(slices.Clone(td.ContainerDefinitions), func(c ContainerDefinition) bool {
		return c.Name != name
	})
	return hashOf(TaskDefinition{
		NetworkMode: td.NetworkMode, PIDMode: td.PIDMode, IPCMode: td.IPCMode,
		CPU: td.CPU, Memory: td.Memory,
		ContainerDefinitions: td.ContainerDefinitions, Volumes: td.Volumes,
	})
}

func hashOf(v any) string {
	text, _ := appendCanonical(nil, reflect.ValueOf(v))
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// appendCanonical writes a value as JSON-like text with sorted names and without members
// that say nothing: empty strings, lists and objects, zeros, and booleans that are false
// (Defaulted has made every boolean whose default is true say so). It reports whether
// there was anything to write. A number behind a pointer counts even when it is zero: a
// swappiness of 0 is not a swappiness left out.
func appendCanonical(b []byte, v reflect.Value) ([]byte, bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return b, false
		}
		if k := v.Elem().Kind(); k == reflect.Int {
			return strconv.AppendInt(b, v.Elem().Int(), 10), true
		}
		return appendCanonical(b, v.Elem())
	case reflect.String:
		return strconv.AppendQuote(b, v.String()), v.Len() > 0
	case reflect.Bool:
		return append(b, "true"...), v.Bool()
	case reflect.Int, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), v.Int() != 0
	case reflect.Float64:
		return strconv.AppendFloat(b, v.Float(), 'g', -1, 64), v.Float() != 0
	case reflect.Slice:
		b = append(b, '[')
		for i := range v.Len() {
			// An element counts even when it is empty: it moves the others.
			b, _ = appendCanonical(b, v.Index(i))
			b = append(b, ',')
		}
		return append(b, ']'), v.Len() > 0
	case reflect.Map:
		m, _ := v.Interface().(map[string]string)
		b = append(b, '{')
		for _, k := range sortedKeys(m) {
			b = append(strconv.AppendQuote(append(strconv.AppendQuote(b, k), ':'), m[k]), ',')
		}
		return append(b, '}'), len(m) > 0
	case reflect.Struct:
		return appendCanonicalStruct(b, v)
	default:
		return b, false // interfaces: only in members that no hash covers
	}
}

func appendCanonicalStruct(b []byte, v reflect.Value) ([]byte, bool) {
	b = append(b, '{')
	some := false
	for _, f := range hashFieldsOf(v.Type()) {
		before := len(b)
		b = append(strconv.AppendQuote(b, f.name), ':')
		var wrote bool
		if b, wrote = appendCanonical(b, v.Field(f.index)); !wrote {
			b = b[:before]
			continue
		}
		b = append(b, ',')
		some = true
	}
	return append(b, '}'), some
}

type hashField struct {
	name  string
	index int
}

var hashFields sync.Map // reflect.Type → []hashField, sorted by name

func hashFieldsOf(t reflect.Type) []hashField {
	if f, ok := hashFields.Load(t); ok {
		return f.([]hashField)
	}
	var fields []hashField
	for name, index := range structInfoOf(t).byName {
		fields = append(fields, hashField{name, index})
	}
	slices.SortFunc(fields, func(a, b hashField) int { return strings.Compare(a.name, b.name) })
	hashFields.Store(t, fields)
	return fields
}
