package main

import (
	"fmt"
	"io"
	"sync"

	"ecsd/pkg/logs"
)

// logPrinter writes log lines, whole ones at a time. It is safe for several goroutines.
type logPrinter struct {
	out, err   logSink
	timestamps bool
	prefix     func(stream) string

	mu     sync.Mutex
	buf    []byte
	text   []byte
	open   string         // the stream whose line has begun and goes on
	colour map[string]int // by prefix
}

// logSink is one of the two outputs.
type logSink struct {
	w   io.Writer
	tty bool
}

func newLogPrinter(stdout, stderr io.Writer, timestamps bool, prefix func(stream) string) *logPrinter {
	return &logPrinter{
		out: logSink{stdout, isTerminal(stdout)}, err: logSink{stderr, isTerminal(stderr)},
		timestamps: timestamps, prefix: prefix, colour: map[string]int{},
	}
}

// print writes a line to the output that its stream is for. A line that came in pieces is
// put together again, unless another one came in between.
func (p *logPrinter) print(s stream, l logs.Line) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	to := p.out
	if l.Stream == "stderr" {
		to = p.err
	}
	p.buf = p.buf[:0]
	from := s.key() + l.Stream
	if p.open != "" && p.open != from {
		p.buf = append(p.buf, '\n')
	}
	if l.Gap {
		p.buf = append(p.buf, "ecsd: lines are missing here: the log was rotated away before it was read\n"...)
	}
	if p.open != from {
		p.begin(s, l, to.tty)
	}
	if to.tty {
		p.text = logs.Sanitize(p.text[:0], l.Text)
		p.buf = append(p.buf, p.text...)
	} else {
		p.buf = append(p.buf, l.Text...)
	}
	p.open = from
	if !l.More {
		p.buf = append(p.buf, '\n')
		p.open = ""
	}
	_, err := to.w.Write(p.buf)
	return err
}

// begin writes what stands before the text of a line.
func (p *logPrinter) begin(s stream, l logs.Line, tty bool) {
	if prefix := clean(p.prefix(s)); prefix != "" {
		if tty {
			n, ok := p.colour[prefix]
			if !ok {
				n = len(p.colour) % 6
				p.colour[prefix] = n
			}
			p.buf = fmt.Appendf(p.buf, "\x1b[3%dm%s |\x1b[0m ", 1+n, prefix)
		} else {
			p.buf = append(p.buf, prefix+" | "...)
		}
	}
	if p.timestamps && !l.Time.IsZero() {
		p.buf = l.Time.UTC().AppendFormat(p.buf, "2006-01-02T15:04:05.000000000Z07:00")
		p.buf = append(p.buf, ' ')
	}
}
