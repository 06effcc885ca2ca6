package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxAliasNodes caps how many values aliases may stand for in one file. A definition that
// repeats its environment in ten containers needs some hundred.
const maxAliasNodes = 10_000

// parseYAML reads all documents of a YAML file. Documents without any content, as a
// leading or trailing "---" makes them, are left out. At a syntax error it gives the
// documents before it.
func parseYAML(data []byte) (docs []node, errs Errors) {
	defer func() {
		// The YAML library reports by panic inside; one that it does not catch itself is
		// its fault, and the file's, but not a reason to fall over.
		if r := recover(); r != nil {
			errs = append(errs, &FieldError{Line: 1, Col: 1, Reason: fmt.Sprintf("cannot be read as YAML: %v", r)})
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var y yaml.Node
		err := d.Decode(&y)
		if errors.Is(err, io.EOF) {
			return docs, errs
		}
		if err != nil {
			return docs, append(errs, yamlSyntaxError(data, err))
		}
		root := &y
		if root.Kind == yaml.DocumentNode {
			root = root.Content[0]
		}
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" && root.Value == "" {
			continue
		}
		c := yamlConverter{}
		n := c.convert(root, 0)
		errs = append(errs, c.errs...)
		if len(c.errs) == 0 || n.kind == mapNode {
			docs = append(docs, n)
		}
	}
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// yamlSyntaxError gives the library's error a place: the line it names, and the first
// character of that line that is no space.
func yamlSyntaxError(data []byte, err error) *FieldError {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = msg[len(m[0]):]
	}
	msg = "is not valid YAML: " + msg
	lines := bytes.Split(data, []byte("\n"))
	line = min(max(line, 1), len(lines))
	// The library is sometimes a line early: a tab in the indent tells the right one.
	for _, l := range []int{line, line + 1} {
		if l > len(lines) {
			break
		}
		indent := lines[l-1][:len(lines[l-1])-len(bytes.TrimLeft(lines[l-1], " \t"))]
		if tab := bytes.IndexByte(indent, '\t'); tab >= 0 {
			return &FieldError{Line: l, Col: tab + 1, Reason: msg + ": a tab cannot indent; use spaces"}
		}
	}
	col := len(lines[line-1]) - len(bytes.TrimLeft(lines[line-1], " ")) + 1
	return &FieldError{Line: line, Col: col, Reason: msg}
}

// yamlConverter turns one YAML document into nodes, with aliases in place.
type yamlConverter struct {
	errs      Errors
	steps     []pathStep
	expanding []*yaml.Node // anchors being expanded, to catch one that holds itself
	expanded  int          // nodes made inside aliases
}

func (c *yamlConverter) fail(y *yaml.Node, format string, args ...any) {
	c.errs = append(c.errs, &FieldError{
		Line: y.Line, Col: y.Column, Path: renderPath(c.steps), Reason: fmt.Sprintf(format, args...),
	})
}

func (c *yamlConverter) convert(y *yaml.Node, depth int) node {
	n := node{line: int32(y.Line), col: int32(y.Column)}
	if depth > maxDepth {
		c.fail(y, "is nested deeper than %d levels", maxDepth)
		return n
	}
	if len(c.expanding) > 0 {
		if c.expanded++; c.expanded > maxAliasNodes {
			if c.expanded == maxAliasNodes+1 {
				c.fail(y, "aliases stand for more than %d values", maxAliasNodes)
			}
			return n
		}
	}
	switch y.Kind {
	case yaml.AliasNode:
		return c.convertAlias(y, depth)
	case yaml.ScalarNode:
		c.convertScalar(y, &n)
	case yaml.SequenceNode:
		n.kind = listNode
		c.checkTag(y, "!!seq")
		n.items = make([]node, len(y.Content))
		for i, item := range y.Content {
			c.steps = append(c.steps, pathStep{index: i, kind: indexStep})
			n.items[i] = c.convert(item, depth+1)
			c.steps = c.steps[:len(c.steps)-1]
		}
	case yaml.MappingNode:
		c.checkTag(y, "!!map")
		c.convertMap(y, &n, depth)
	default:
		c.fail(y, "cannot be read")
	}
	return n
}

func (c *yamlConverter) convertAlias(y *yaml.Node, depth int) node {
	for _, open := range c.expanding {
		if open == y.Alias {
			c.fail(y, "the anchor %q holds itself", y.Value)
			return node{line: int32(y.Line), col: int32(y.Column)}
		}
	}
	c.expanding = append(c.expanding, y.Alias)
	n := c.convert(y.Alias, depth)
	c.expanding = c.expanding[:len(c.expanding)-1]
	return n
}

func (c *yamlConverter) convertMap(y *yaml.Node, n *node, depth int) {
	n.kind = mapNode
	n.keys = make([]nodeKey, 0, len(y.Content)/2)
	n.items = make([]node, 0, len(y.Content)/2)
	seen := newKeySet(len(y.Content) / 2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			c.fail(key, "a key must be a plain word, not a list or mapping")
			continue
		}
		plain := key.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0
		switch {
		case key.Tag == "!!merge" || plain && key.Value == "<<":
			c.fail(key, "merge keys (<<) are not supported: repeat the members, or use an alias for the whole value")
			continue
		case key.Tag != "!!str" && key.Tag != "!!timestamp":
			c.fail(key, "the key %s is not a string: write it in quotes", key.Value)
			continue
		}
		if first, dup := seen.add(key.Value, key.Line); dup {
			c.fail(key, "the key %s appears twice (first in line %d)", memberName(key.Value), first)
			continue
		}
		c.steps = append(c.steps, pathStep{name: key.Value})
		v := c.convert(value, depth+1)
		c.steps = c.steps[:len(c.steps)-1]
		n.keys = append(n.keys, nodeKey{name: key.Value, line: int32(key.Line), col: int32(key.Column)})
		n.items = append(n.items, v)
	}
}

func (c *yamlConverter) convertScalar(y *yaml.Node, n *node) {
	n.text = y.Value
	n.plain = y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	c.checkTag(y, "!!str")
	switch y.Tag {
	case "!!null":
		n.kind = nullNode
	case "!!bool":
		n.kind = boolNode
	case "!!int":
		n.kind = intNode
	case "!!float":
		n.kind = floatNode
	default:
		n.kind = stringNode
	}
	if y.Style&yaml.TaggedStyle != 0 {
		n.kind, n.plain = stringNode, false
	}
}

// checkTag refuses tags that somebody wrote, but for the one that says what is so anyway.
func (c *yamlConverter) checkTag(y *yaml.Node, allowed string) {
	if y.Style&yaml.TaggedStyle != 0 && y.ShortTag() != allowed {
		c.fail(y, "the tag %s is not supported: write the value without it", y.ShortTag())
	}
}

// keySet tells repeated keys of a map apart: by looking at all for a few keys, by a map
// for many.
type keySet struct {
	few  []nodeKey
	many map[string]int
}

func newKeySet(n int) *keySet {
	if n > 32 {
		return &keySet{many: make(map[string]int, n)}
	}
	return &keySet{few: make([]nodeKey, 0, n)}
}

// add remembers a key; for one that it knows it returns the line of the first.
func (s *keySet) add(name string, line int) (first int, dup bool) {
	if s.many != nil {
		if first, dup = s.many[name]; !dup {
			s.many[name] = line
		}
		return first, dup
	}
	for _, k := range s.few {
		if k.name == name {
			return int(k.line), true
		}
	}
	s.few = append(s.few, nodeKey{name: name, line: int32(line)})
	return 0, false
}
