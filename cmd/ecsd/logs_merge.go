package main

import (
	"bytes"
	"errors"
	"iter"

	"ecsd/pkg/logs"
)

// merge brings several logs into the order of their times. Within one log the order stays
// that of the file.
type merge struct {
	heads []head
}

// head is the next line of one log.
type head struct {
	s    stream
	line logs.Line
	next func() (logs.Line, error, bool)
	stop func()
}

var errMerged = errors.New("no further line")

// add takes a log in. An error of its first line is returned, and the log is left out.
func (m *merge) add(s stream, lines iter.Seq2[logs.Line, error]) error {
	next, stop := iter.Pull2(lines)
	h := head{s: s, next: next, stop: stop}
	ok, err := h.advance()
	if !ok || err != nil {
		stop()
		return err
	}
	m.heads = append(m.heads, h)
	return nil
}

// advance reads the next line; ok is false at the end. The line is copied: the one that
// is handed out stays valid while its successor is read.
func (h *head) advance() (ok bool, err error) {
	line, err, ok := h.next()
	line.Text = bytes.Clone(line.Text)
	h.line = line
	return ok, err
}

// next is the earliest line of all, or errMerged at the end of all. Another error is why
// the log of the line that comes with it could not be read further.
func (m *merge) next() (stream, logs.Line, error) {
	if len(m.heads) == 0 {
		return stream{}, logs.Line{}, errMerged
	}
	first := 0
	for i, h := range m.heads[1:] {
		if h.line.Time.Before(m.heads[first].line.Time) {
			first = i + 1
		}
	}
	h := &m.heads[first]
	s, line := h.s, h.line
	ok, err := h.advance()
	if !ok || err != nil {
		h.stop()
		m.heads = append(m.heads[:first], m.heads[first+1:]...)
	}
	return s, line, err
}

func (m *merge) stop() {
	for _, h := range m.heads {
		h.stop()
	}
}
