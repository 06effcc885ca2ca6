package spec

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// binder gives nodes the types of the ECS objects. It collects every error it finds and
// goes on, so that a file's errors come all at once.
type binder struct {
	kind  string // KindTaskDefinition or KindService: whose fields are being bound
	steps []pathStep
	errs  Errors
	// leftOut holds what was written, is ECS's, and has no member in our types.
	leftOut uses
}

func (b *binder) fail(line, col int32, format string, args ...any) {
	b.errs = append(b.errs, &FieldError{
		Line: int(line), Col: int(col), Path: renderPath(b.steps), Reason: fmt.Sprintf(format, args...),
	})
}

// structInfo is what bind must know of a struct type.
type structInfo struct {
	byName map[string]int // JSON name → field index
	names  []string       // sorted
}

var structInfos sync.Map // reflect.Type → *structInfo

func structInfoOf(t reflect.Type) *structInfo {
	if info, ok := structInfos.Load(t); ok {
		return info.(*structInfo)
	}
	info := &structInfo{byName: map[string]int{}}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		info.byName[name] = i
		info.names = append(info.names, name)
	}
	slices.Sort(info.names)
	actual, _ := structInfos.LoadOrStore(t, info)
	return actual.(*structInfo)
}

var taskDefinitionType = reflect.TypeFor[TaskDefinition]()

// isNumericString tells the two string fields that ECS users also write as numbers.
func isNumericString(t reflect.Type, name string) bool {
	return t == taskDefinitionType && (name == "cpu" || name == "memory")
}

// bind stores n in v.
func (b *binder) bind(n *node, v reflect.Value) {
	if n.kind == nullNode && v.Kind() != reflect.Interface {
		b.fail(n.line, n.col, "has no value: give it one, or remove the key")
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		b.bind(n, p.Elem())
		v.Set(p)
	case reflect.Struct:
		b.bindStruct(n, v)
	case reflect.Slice:
		b.bindSlice(n, v)
	case reflect.Map:
		b.bindMap(n, v)
	case reflect.String:
		if s, ok := b.str(n); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		b.bindBool(n, v)
	case reflect.Int:
		b.bindInt(n, v, math.MinInt32, math.MaxInt32)
	case reflect.Int64:
		b.bindInt(n, v, math.MinInt64, math.MaxInt64)
	case reflect.Float64:
		b.bindFloat(n, v)
	case reflect.Interface:
		if x := b.free(n); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		panic("spec: no rule to decode into " + v.Type().String())
	}
}

func (b *binder) bindStruct(n *node, v reflect.Value) {
	if n.kind != mapNode {
		b.fail(n.line, n.col, "must be a mapping of fields, not %s", n.what())
		return
	}
	info := structInfoOf(v.Type())
	for i := range n.keys {
		key, item := &n.keys[i], &n.items[i]
		index, known := info.byName[key.name]
		if !known {
			b.unknown(key, info.names)
			continue
		}
		b.steps = append(b.steps, pathStep{name: key.name})
		if (item.kind == intNode || item.kind == floatNode) && isNumericString(v.Type(), key.name) {
			v.Field(index).SetString(item.text)
		} else {
			b.bind(item, v.Field(index))
		}
		b.steps = b.steps[:len(b.steps)-1]
	}
}

// unknown deals with a key that our types do not have: an error, unless ECS knows it and
// it merely has no effect here.
func (b *binder) unknown(key *nodeKey, names []string) {
	b.steps = append(b.steps, pathStep{name: key.name})
	defer func() { b.steps = b.steps[:len(b.steps)-1] }()
	if f, ok := fieldAt(b.kind, genericPath(b.steps)); ok {
		if f.Support == Refused {
			b.fail(key.line, key.col, "%s", f.Why)
		} else {
			f.Path = renderPath(b.steps)
			b.leftOut = append(b.leftOut, f)
		}
		return
	}
	reason, meant := unknownField(key.name, names)
	b.fail(key.line, key.col, "%s", reason)
	if meant != "" {
		steps := append(b.steps[:len(b.steps)-1:len(b.steps)-1], pathStep{name: meant})
		b.errs[len(b.errs)-1].meant = renderPath(steps)
	}
}

// unknownAt is unknown for the keys around an ECS object.
func (b *binder) unknownAt(key *nodeKey, names ...string) {
	b.steps = []pathStep{{name: key.name}}
	reason, _ := unknownField(key.name, names)
	b.fail(key.line, key.col, "%s", reason)
	b.steps = b.steps[:0]
}

func (b *binder) bindSlice(n *node, v reflect.Value) {
	if n.kind != listNode {
		b.fail(n.line, n.col, "must be a list, not %s", n.what())
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i := range n.items {
		b.steps = append(b.steps, pathStep{index: i, kind: indexStep})
		b.bind(&n.items[i], s.Index(i))
		b.steps = b.steps[:len(b.steps)-1]
	}
	v.Set(s)
}

// bindMap fills a map[string]string, the only kind of map there is.
func (b *binder) bindMap(n *node, v reflect.Value) {
	if n.kind != mapNode {
		b.fail(n.line, n.col, "must be a mapping of strings, not %s", n.what())
		return
	}
	m := make(map[string]string, len(n.keys))
	for i := range n.keys {
		b.steps = append(b.steps, pathStep{name: n.keys[i].name, kind: keyStep})
		if strings.ContainsRune(n.keys[i].name, 0) {
			b.fail(n.keys[i].line, n.keys[i].col, "the key holds a NUL character")
		} else if s, ok := b.str(&n.items[i]); ok {
			m[n.keys[i].name] = s
		}
		b.steps = b.steps[:len(b.steps)-1]
	}
	v.Set(reflect.ValueOf(m))
}

// str reads a string and nothing that merely looks like one: YAML turns words and numbers
// into other types, and a file that says "no" must not come to mean "false".
func (b *binder) str(n *node) (string, bool) {
	switch n.kind {
	case stringNode:
		if n.plain && yaml11Boolean(n.text) {
			b.fail(n.line, n.col, "%s is a boolean to many YAML readers: write %q in quotes", n.text, n.text)
			return "", false
		}
		if strings.IndexByte(n.text, 0) >= 0 {
			b.fail(n.line, n.col, "holds a NUL character")
			return "", false
		}
		return n.text, true
	case nullNode:
		b.fail(n.line, n.col, `has no value: give it one (an empty string is written ""), or remove the key`)
	case boolNode, intNode, floatNode:
		b.fail(n.line, n.col, "must be a string, not %s: write %q in quotes", n.what(), n.text)
	default:
		b.fail(n.line, n.col, "must be a string, not %s", n.what())
	}
	return "", false
}

// yaml11Boolean tells the words that YAML 1.1 takes for booleans and YAML 1.2 does not.
func yaml11Boolean(s string) bool {
	switch s {
	case "yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF":
		return true
	}
	return false
}

func (b *binder) bindBool(n *node, v reflect.Value) {
	if n.kind != boolNode {
		b.fail(n.line, n.col, "must be true or false, not %s", quoteScalar(n))
		return
	}
	v.SetBool(n.text[0] == 't' || n.text[0] == 'T')
}

func (b *binder) bindInt(n *node, v reflect.Value, low, high int64) {
	switch {
	case n.kind == floatNode:
		b.fail(n.line, n.col, "must be a whole number, not %s", n.text)
		return
	case n.kind != intNode:
		b.fail(n.line, n.col, "must be a whole number, not %s", quoteScalar(n))
		return
	case !plainDecimal(n.text):
		b.fail(n.line, n.col, "must be a plain decimal number without leading zeros, not %s", n.text)
		return
	}
	i, err := strconv.ParseInt(n.text, 10, 64)
	if err != nil || i < low || i > high {
		b.fail(n.line, n.col, "%s is out of range", n.text)
		return
	}
	v.SetInt(i)
}

func (b *binder) bindFloat(n *node, v reflect.Value) {
	f, err := strconv.ParseFloat(n.text, 64)
	if n.kind != intNode && n.kind != floatNode || err != nil || math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(n.text, "_xXpP") {
		b.fail(n.line, n.col, "must be a decimal number, not %s", quoteScalar(n))
		return
	}
	v.SetFloat(f)
}

// free reads a value whose form ECS leaves open.
func (b *binder) free(n *node) any {
	switch n.kind {
	case nullNode:
		return nil
	case boolNode:
		return n.text[0] == 't' || n.text[0] == 'T'
	case intNode, floatNode:
		f, err := strconv.ParseFloat(n.text, 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			b.fail(n.line, n.col, "must be a decimal number, not %s", n.text)
			return nil
		}
		return f
	case listNode:
		list := make([]any, len(n.items))
		for i := range n.items {
			list[i] = b.free(&n.items[i])
		}
		return list
	case mapNode:
		m := make(map[string]any, len(n.keys))
		for i := range n.keys {
			m[n.keys[i].name] = b.free(&n.items[i])
		}
		return m
	default:
		return n.text
	}
}

// plainDecimal tells -?(0|[1-9][0-9]*): what every reader takes for the same number.
func plainDecimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	if s == "" || len(s) > 1 && s[0] == '0' {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// quoteScalar shows a value in an error: itself when it is short, else its kind.
func quoteScalar(n *node) string {
	if n.kind == stringNode && len(n.text) <= 40 {
		return strconv.Quote(n.text)
	}
	if n.kind == intNode || n.kind == floatNode || n.kind == boolNode {
		return n.text
	}
	return n.what()
}
