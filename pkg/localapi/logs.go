package localapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ecsd/pkg/logs"
	"ecsd/pkg/spec"
)

// LogOptions says which lines of a container's log are wanted.
type LogOptions struct {
	Follow bool      // go on until the container's task has stopped
	Tail   int       // only the last so many lines; negative: all
	Since  time.Time // only lines written at or after this
}

const (
	// errorTrailer tells, as an Error in JSON, of a failure after the answer has begun.
	errorTrailer = "Ecsd-Error"
	// followTick bounds how late a follower notices that its task has stopped, should
	// the event that says so have been lost.
	followTick = time.Second
	// lastWords is how long after its task has stopped a followed log is taken for
	// complete: the log writer may still be reading the end of the container's pipes.
	lastWords = 100 * time.Millisecond
)

// logsOperation streams a container's log in the CRI log format, one line a line:
// "<RFC 3339 time> <stdout|stderr> <F|P>[:gap] <text>".
var logsOperation = operation{"GET /v1/logs/{task}/{container}", "read logs", false, func(s *Server, w http.ResponseWriter, r *http.Request) error {
	o, err := logOptions(r.URL.Query())
	if err != nil {
		return err
	}
	path, id, err := s.logFile(r.PathValue("task"), r.PathValue("container"))
	if err != nil {
		return err
	}
	opt := logs.Options{Follow: o.Follow, Tail: o.Tail, Since: o.Since}
	if o.Follow {
		ended, release := s.ended(r.Context(), id)
		defer release()
		opt.Ended = ended
	}
	in, err := logs.Open(path, opt)
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{CodeNotFound, "task " + short(id) + " has no log of that container: it has not started yet, or its log has been removed"}
	}
	if err != nil {
		return err
	}
	defer in.Close()
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Trailer", errorTrailer)
	if o.Follow {
		_ = rc.Flush()
	}
	var buf []byte
	for {
		line, err := in.Next(r.Context())
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case r.Context().Err() != nil: // the agent stops, or the client is gone
			return trailError(w, &Error{CodeUnavailable, "the agent has ended the log: it stops or restarts"})
		case err != nil:
			return trailError(w, asError(err))
		}
		buf = appendCRI(buf[:0], line)
		if _, err := w.Write(buf); err != nil {
			return nil // the client is gone
		}
		if o.Follow && rc.Flush() != nil {
			return nil
		}
	}
}}

// trailError ends an answer that has begun with a failure. The error is that of the telling.
func trailError(w http.ResponseWriter, e *Error) error {
	b, err := json.Marshal(e)
	if err == nil {
		w.Header().Set(errorTrailer, string(b))
	}
	return err
}

// logFile finds the log that is meant, and its task.
func (s *Server) logFile(task, container string) (path, id string, err error) {
	if id, err = s.resolve(task); err != nil {
		return "", "", err
	}
	d, err := s.detail(id)
	if err != nil {
		return "", "", err
	}
	names := make([]string, 0, len(d.Task.Containers))
	for _, c := range d.Task.Containers {
		names = append(names, c.Name)
	}
	if !slices.Contains(names, container) {
		return "", "", &Error{CodeNotFound, "task " + short(id) + " has no container " + strconv.Quote(container) + ": it has " + strings.Join(names, ", ")}
	}
	if s.c.LogFile == nil {
		return "", "", &Error{CodeUnavailable, "this agent keeps no logs"}
	}
	path, err = s.c.LogFile(id, container)
	return path, id, err
}

// ended is closed when nothing more will be written to the logs of a task. The goroutine
// that watches for it ends with release, which the caller calls before it returns.
func (s *Server) ended(parent context.Context, id string) (closed <-chan struct{}, release func()) {
	ctx, cancel := context.WithCancel(parent)
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, changed := s.c.Events.since(0)
			if s.stopped(id) {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-time.After(followTick):
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(lastWords):
			close(end)
		}
	}()
	return end, func() { cancel(); <-done }
}

// stopped reports whether nothing further can come from a task.
func (s *Server) stopped(id string) bool {
	v, ok := s.view(id)
	return !ok || v.Status.LastStatus == spec.StatusStopped
}

// short is a task id as people see it.
func short(id string) string { return id[:min(12, len(id))] }

func logOptions(q url.Values) (LogOptions, error) {
	o := LogOptions{Follow: isTrue(q.Get("follow")), Tail: -1}
	if v := q.Get("tail"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return o, &Error{CodeInvalid, "tail: " + strconv.Quote(v) + " is not a number of lines"}
		}
		o.Tail = max(n, -1)
	}
	if v := q.Get("since"); v != "" {
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			return o, &Error{CodeInvalid, "since: " + strconv.Quote(v) + " is not an RFC 3339 time"}
		}
		o.Since = t
	}
	return o, nil
}

// Logs yields the log of one container of a task; a line is valid until the next. A failure is the last pair it yields.
func (c *Client) Logs(ctx context.Context, task, container string, o LogOptions) iter.Seq2[logs.Line, error] {
	q := url.Values{}
	if o.Follow {
		q.Set("follow", "1")
	}
	if o.Tail >= 0 {
		q.Set("tail", strconv.Itoa(o.Tail))
	}
	if !o.Since.IsZero() {
		q.Set("since", o.Since.Format(time.RFC3339Nano))
	}
	return func(yield func(logs.Line, error) bool) {
		resp, err := c.do(ctx, http.MethodGet, "/v1/logs/"+url.PathEscape(task)+"/"+url.PathEscape(container), q, nil)
		if err != nil {
			yield(logs.Line{}, err)
			return
		}
		defer resp.Body.Close()
		in := bufio.NewReader(resp.Body)
		for {
			raw, err := in.ReadBytes('\n')
			switch {
			case ctx.Err() != nil:
				return
			case errors.Is(err, io.EOF):
				if told := resp.Trailer.Get(errorTrailer); told != "" {
					e := &Error{CodeInternal, told}
					_ = json.Unmarshal([]byte(told), e) // what is no Error is told as it is
					yield(logs.Line{}, e)
				}
				return
			case err != nil:
				yield(logs.Line{}, &Error{CodeUnavailable, "the agent has ended the log: it stops or restarts"})
				return
			}
			line, ok := parseCRI(raw)
			if !ok {
				yield(line, &Error{CodeInternal, "the agent sent a log line that cannot be read"})
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

func appendCRI(b []byte, l logs.Line) []byte {
	b = l.Time.AppendFormat(b, time.RFC3339Nano)
	b = append(b, ' ')
	b = append(b, l.Stream...)
	if l.More {
		b = append(b, " P"...)
	} else {
		b = append(b, " F"...)
	}
	if l.Gap {
		b = append(b, ":gap"...)
	}
	b = append(b, ' ')
	b = append(b, l.Text...)
	return append(b, '\n')
}

func parseCRI(raw []byte) (logs.Line, bool) {
	at, rest, ok1 := bytes.Cut(bytes.TrimSuffix(raw, []byte("\n")), []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tags, text, ok3 := bytes.Cut(rest, []byte(" "))
	t, err := time.Parse(time.RFC3339Nano, string(at))
	return logs.Line{
		Time: t, Stream: string(stream), Text: text,
		More: bytes.HasPrefix(tags, []byte("P")), Gap: bytes.HasSuffix(tags, []byte(":gap")),
	}, ok1 && ok2 && ok3 && err == nil
}
