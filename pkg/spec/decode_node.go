package spec

import (
	"strconv"
	"strings"
)

// node is a parsed value before it is given a type. YAML and JSON both become nodes, so
// that every rule is written once.
type node struct {
	kind      nodeKind
	plain     bool // a YAML scalar without quotes
	line, col int32
	text      string // of a scalar: decoded for strings, as written for the rest
	keys      []nodeKey
	items     []node // of a list; of a map, the values, as many as keys
}

// nodeKey is one key of a map.
type nodeKey struct {
	name      string
	line, col int32
}

type nodeKind uint8

const (
	nullNode nodeKind = iota
	boolNode
	intNode
	floatNode
	stringNode
	listNode
	mapNode
)

// what names a node's kind in an error.
func (n *node) what() string {
	switch n.kind {
	case nullNode:
		return "null"
	case boolNode:
		return "a boolean"
	case intNode, floatNode:
		return "a number"
	case stringNode:
		return "a string"
	case listNode:
		return "a list"
	default:
		return "a mapping"
	}
}

// get finds the value of a key; nil when the node is no map or has no such key.
func (n *node) get(key string) *node {
	for i := range n.keys {
		if n.keys[i].name == key {
			return &n.items[i]
		}
	}
	return nil
}

// getFold finds the value of a key whatever its case: for telling what a document is
// meant to be, so that the error speaks about the key and not about the document.
func (n *node) getFold(key string) *node {
	for i := range n.keys {
		if strings.EqualFold(n.keys[i].name, key) {
			return &n.items[i]
		}
	}
	return nil
}

// pathStep is one step into a document: a member, a key of a map or an index of a list.
type pathStep struct {
	name  string
	index int
	kind  stepKind
}

type stepKind uint8

const (
	memberStep stepKind = iota
	indexStep
	keyStep
)

// renderPath writes steps as containerDefinitions[0].dockerLabels["a.b"].
func renderPath(steps []pathStep) string {
	var b strings.Builder
	for i, s := range steps {
		switch s.kind {
		case indexStep:
			b.WriteByte('[')
			b.WriteString(strconv.Itoa(s.index))
			b.WriteByte(']')
		case keyStep:
			b.WriteString(`[`)
			b.WriteString(strconv.Quote(s.name))
			b.WriteString(`]`)
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(memberName(s.name))
		}
	}
	return b.String()
}

// memberName quotes a member name that is no plain word: it came from a file.
func memberName(s string) string {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

// parsePath is the inverse of renderPath; a path it cannot read ends where it stopped
// understanding.
func parsePath(path string) []pathStep {
	var steps []pathStep
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			if strings.HasPrefix(path, `["`) {
				quoted, err := strconv.QuotedPrefix(path[1:])
				if err != nil {
					return steps
				}
				name, _ := strconv.Unquote(quoted)
				steps = append(steps, pathStep{name: name, kind: keyStep})
				path = strings.TrimPrefix(path[1+len(quoted):], "]")
				continue
			}
			number, rest, ok := strings.Cut(path[1:], "]")
			index, err := strconv.Atoi(number)
			if !ok || err != nil {
				return steps
			}
			steps = append(steps, pathStep{index: index, kind: indexStep})
			path = rest
		case '"':
			quoted, err := strconv.QuotedPrefix(path)
			if err != nil {
				return steps
			}
			name, _ := strconv.Unquote(quoted)
			steps = append(steps, pathStep{name: name})
			path = path[len(quoted):]
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			steps = append(steps, pathStep{name: path[:end]})
			path = path[end:]
		}
	}
	return steps
}

// partOf reports whether one path is another, or leads further into it.
func partOf(part, whole string) bool {
	rest, ok := strings.CutPrefix(part, whole)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
