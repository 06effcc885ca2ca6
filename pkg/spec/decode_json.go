package spec

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// parseJSON reads a JSON file: exactly one value, by RFC 8259 and not a comma more, with
// the line and column of every value. encoding/json keeps no places and takes keys in any
// case and twice.
func parseJSON(data []byte) ([]node, Errors) {
	p := jsonParser{data: string(data), line: 1, col: 1}
	p.space()
	if p.pos == len(p.data) {
		return nil, nil
	}
	n, err := p.value(0)
	if err == nil {
		if p.space(); p.pos < len(p.data) {
			err = p.errorf("unexpected %s after the end of the document: a .json file holds one", p.next())
		}
	}
	if err != nil {
		return nil, append(p.errs, err)
	}
	return []node{n}, p.errs
}

// jsonParser is a recursive descent over valid UTF-8. Syntax errors end it; repeated keys
// are collected.
type jsonParser struct {
	data      string
	pos       int
	line, col int // of pos
	steps     []pathStep
	errs      Errors
}

func (p *jsonParser) errorf(format string, args ...any) *FieldError {
	return &FieldError{Line: p.line, Col: p.col, Path: renderPath(p.steps), Reason: "is not valid JSON: " + fmt.Sprintf(format, args...)}
}

// advance moves n bytes on, none of them a newline.
func (p *jsonParser) advance(n int) {
	p.col += utf8.RuneCountInString(p.data[p.pos : p.pos+n])
	p.pos += n
}

func (p *jsonParser) space() {
	for ; p.pos < len(p.data); p.pos++ {
		switch p.data[p.pos] {
		case '\n':
			p.line++
			p.col = 1
		case ' ', '\t', '\r':
			p.col++
		default:
			return
		}
	}
}

// next names the next character for an error.
func (p *jsonParser) next() string {
	if p.pos == len(p.data) {
		return "end of file"
	}
	r, _ := utf8.DecodeRuneInString(p.data[p.pos:])
	return strconv.QuoteRune(r)
}

// take moves over c and reports whether it was there.
func (p *jsonParser) take(c byte) bool {
	if p.pos < len(p.data) && p.data[p.pos] == c {
		p.advance(1)
		return true
	}
	return false
}

func (p *jsonParser) value(depth int) (node, *FieldError) {
	n := node{line: int32(p.line), col: int32(p.col)}
	if depth > maxDepth {
		return n, &FieldError{Line: p.line, Col: p.col, Reason: fmt.Sprintf("is nested deeper than %d levels", maxDepth)}
	}
	if p.pos == len(p.data) {
		return n, p.errorf("the file ends in the middle")
	}
	var err *FieldError
	switch c := p.data[p.pos]; {
	case c == '{':
		n.kind = mapNode
		err = p.object(&n, depth)
	case c == '[':
		n.kind = listNode
		err = p.array(&n, depth)
	case c == '"':
		n.kind = stringNode
		n.text, err = p.str()
	case c == '-' || '0' <= c && c <= '9':
		err = p.number(&n)
	default:
		err = p.word(&n)
	}
	return n, err
}

func (p *jsonParser) object(n *node, depth int) *FieldError {
	p.advance(1)
	seen := newKeySet(0)
	for {
		p.space()
		if p.take('}') {
			if len(n.keys) > 0 {
				return p.errorf("a comma before '}'")
			}
			return nil
		}
		if p.pos == len(p.data) || p.data[p.pos] != '"' {
			return p.errorf("unexpected %s where a key in double quotes must be", p.next())
		}
		line, col := p.line, p.col
		key, err := p.str()
		if err != nil {
			return err
		}
		p.steps = append(p.steps, pathStep{name: key})
		if p.space(); !p.take(':') {
			return p.errorf("unexpected %s where ':' must be", p.next())
		}
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		p.steps = p.steps[:len(p.steps)-1]
		if seen.many == nil && len(seen.few) > 32 {
			seen = seen.grown()
		}
		if first, dup := seen.add(key, line); dup {
			p.errs = append(p.errs, &FieldError{Line: line, Col: col, Path: renderPath(p.steps),
				Reason: fmt.Sprintf("the key %s appears twice (first in line %d)", memberName(key), first)})
		} else {
			n.keys = append(n.keys, nodeKey{name: key, line: int32(line), col: int32(col)})
			n.items = append(n.items, v)
		}
		p.space()
		if p.take(',') {
			continue
		}
		if p.take('}') {
			return nil
		}
		return p.errorf("unexpected %s where ',' or '}' must be", p.next())
	}
}

func (p *jsonParser) array(n *node, depth int) *FieldError {
	p.advance(1)
	for i := 0; ; i++ {
		p.space()
		if p.take(']') {
			if i > 0 {
				return p.errorf("a comma before ']'")
			}
			return nil
		}
		p.steps = append(p.steps, pathStep{index: i, kind: indexStep})
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		p.steps = p.steps[:len(p.steps)-1]
		n.items = append(n.items, v)
		p.space()
		if p.take(',') {
			continue
		}
		if p.take(']') {
			return nil
		}
		return p.errorf("unexpected %s where ',' or ']' must be", p.next())
	}
}

func (p *jsonParser) word(n *node) *FieldError {
	for _, w := range []struct {
		text string
		kind nodeKind
	}{{"true", boolNode}, {"false", boolNode}, {"null", nullNode}} {
		if strings.HasPrefix(p.data[p.pos:], w.text) {
			n.kind, n.text = w.kind, w.text
			p.advance(len(w.text))
			return nil
		}
	}
	return p.errorf("unexpected %s where a value must be", p.next())
}

// number takes what RFC 8259 calls one: no leading zero, no plus, no bare point.
func (p *jsonParser) number(n *node) *FieldError {
	digits := func(i int) int {
		for i < len(p.data) && '0' <= p.data[i] && p.data[i] <= '9' {
			i++
		}
		return i
	}
	at := func(i int) byte {
		if i < len(p.data) {
			return p.data[i]
		}
		return 0
	}
	n.kind = intNode
	start, i := p.pos, p.pos
	if at(i) == '-' {
		i++
	}
	whole := i
	if i = digits(i); i == whole || p.data[whole] == '0' && i > whole+1 {
		return p.errorf("a number must begin with one digit, and not with a zero before others")
	}
	if at(i) == '.' {
		n.kind = floatNode
		from := i + 1
		if i = digits(from); i == from {
			return p.errorf("a number must have a digit after its point")
		}
	}
	if at(i) == 'e' || at(i) == 'E' {
		n.kind = floatNode
		if i++; at(i) == '+' || at(i) == '-' {
			i++
		}
		from := i
		if i = digits(from); i == from {
			return p.errorf("a number must have a digit in its exponent")
		}
	}
	n.text = p.data[start:i]
	p.advance(i - start)
	return nil
}

var jsonEscapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// str reads a string with its quotes. The common one without an escape is not copied.
func (p *jsonParser) str() (string, *FieldError) {
	p.advance(1)
	start := p.pos
	end := strings.IndexAny(p.data[start:], "\"\\\n")
	if end >= 0 && p.data[start+end] == '"' && !hasControl(p.data[start:start+end]) {
		p.advance(end + 1)
		return p.data[start : start+end], nil
	}
	var b strings.Builder
	for {
		if p.pos == len(p.data) {
			return "", p.errorf("a string has no closing quote")
		}
		c := p.data[p.pos]
		switch {
		case c == '"':
			p.advance(1)
			return b.String(), nil
		case c < 0x20:
			return "", p.errorf("a string must not hold the control character %s: write it as an escape", p.next())
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		default:
			_, size := utf8.DecodeRuneInString(p.data[p.pos:])
			b.WriteString(p.data[p.pos : p.pos+size])
			p.advance(size)
		}
	}
}

func (p *jsonParser) escape() (rune, *FieldError) {
	if p.pos+1 < len(p.data) {
		c := p.data[p.pos+1]
		if r, ok := jsonEscapes[c]; ok {
			p.advance(2)
			return rune(r), nil
		}
		if c == 'u' {
			r, ok := p.hex4(p.pos + 2)
			if ok && !utf16.IsSurrogate(r) {
				p.advance(6)
				return r, nil
			}
			if ok && strings.HasPrefix(p.data[p.pos+6:], `\u`) {
				if low, lowOK := p.hex4(p.pos + 8); lowOK {
					if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
						p.advance(12)
						return r, nil
					}
				}
			}
		}
	}
	return 0, p.errorf("a string holds a backslash that begins no escape")
}

func (p *jsonParser) hex4(i int) (rune, bool) {
	if i+4 > len(p.data) {
		return 0, false
	}
	n, err := strconv.ParseUint(p.data[i:i+4], 16, 16)
	return rune(n), err == nil
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 {
			return true
		}
	}
	return false
}

// grown is the same set with a map.
func (s *keySet) grown() *keySet {
	g := &keySet{many: make(map[string]int, 2*len(s.few))}
	for _, k := range s.few {
		g.many[k.name] = int(k.line)
	}
	return g
}
