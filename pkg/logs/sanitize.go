package logs

import (
	"fmt"
	"unicode/utf8"
)

// Sanitize appends text to b in a form that cannot command a terminal: what a container
// prints may hold escape sequences that retitle windows, move the cursor over other
// lines or hide a link's target. Control characters are shown as ^X, C1 controls and
// direction marks as <U+202E>, and bytes that are no UTF-8 as \xNN. Tabs stay; so do
// colours (ESC [ … m), which are taken back at the end. A carriage return at the end,
// as every line of a terminal has one, is left out.
//
// It is for output to a terminal. A pipe or a file gets the bytes as they were.
func Sanitize(b, text []byte) []byte {
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text = text[:n-1]
	}
	coloured := false
	for len(text) > 0 {
		if n := colour(text); n > 0 {
			b = append(b, text[:n]...)
			text, coloured = text[n:], true
			continue
		}
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\x%02x`, text[0])
		case r == '\t':
			b = append(b, '\t')
		case r < 0x20:
			b = append(b, '^', byte(r)+'@')
		case r == 0x7f:
			b = append(b, '^', '?')
		case r < 0xa0 && r >= 0x80, directional(r):
			b = fmt.Appendf(b, "<U+%04X>", r)
		default:
			b = append(b, text[:n]...)
		}
		text = text[n:]
	}
	if coloured {
		b = append(b, "\x1b[0m"...)
	}
	return b
}

// colour is the length of the "select graphic rendition" sequence that text begins with.
func colour(text []byte) int {
	if len(text) < 3 || text[0] != 0x1b || text[1] != '[' {
		return 0
	}
	for i, c := range text[2:] {
		switch {
		case c == 'm':
			return i + 3
		case (c < '0' || c > '9') && c != ';' && c != ':':
			return 0
		}
	}
	return 0
}

// directional tells whether r changes the order in which text is shown.
func directional(r rune) bool {
	return r == 0x061c || r == 0x200e || r == 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 ||
		r == 0x2028 || r == 0x2029
}
