package logs

import (
	"bytes"
	"time"
)

// Line is one line that a container printed.
type Line struct {
	Time   time.Time // when it was read from the container; zero when the file does not tell
	Stream string    // "stdout" or "stderr"
	Text   []byte    // without the newline; valid until the next call of Next
	// More says that the line was too long to be given at once and goes on in the next
	// Line of the same stream. No newline belongs here.
	More bool
	// Gap says that files between the line before and this one were removed before they
	// were read: the reader was slower than the rotation.
	Gap bool
}

// Append renders the line as `ecsd logs` prints it, with its newline, after b.
func (l Line) Append(b []byte, timestamps bool) []byte {
	if timestamps && !l.Time.IsZero() {
		b = l.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000000Z07:00")
		b = append(b, ' ')
	}
	b = append(b, l.Text...)
	if !l.More {
		b = append(b, '\n')
	}
	return b
}

// record is one line of a log file, decoded.
type record struct {
	time    time.Time
	stream  string
	partial bool // the text goes on in the next record of the stream
	text    []byte
}

// decode reads a record, given without its newline. What is not one (a line that a crash
// cut short, a file that something else wrote) is taken for the text itself: nothing is
// hidden from who looks for a reason.
func decode(b []byte) record {
	raw := record{stream: "stdout", text: b}
	stamp, rest, ok := bytes.Cut(b, space)
	if !ok || len(stamp) < len("2006-01-02T15:04:05Z") || len(stamp) > len("2006-01-02T15:04:05.000000000-07:00") {
		return raw
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return raw
	}
	stream, rest, ok := bytes.Cut(rest, space)
	if !ok {
		return raw
	}
	r := record{time: t}
	switch string(stream) {
	case "stdout":
		r.stream = "stdout"
	case "stderr":
		r.stream = "stderr"
	default:
		return raw
	}
	// Tags are separated by colons; the first is F or P.
	tags, text, _ := bytes.Cut(rest, space)
	tag, _, _ := bytes.Cut(tags, colon)
	switch string(tag) {
	case "F":
	case "P":
		r.partial = true
	default:
		return raw
	}
	r.text = text
	return r
}

var (
	space = []byte{' '}
	colon = []byte{':'}
)
