package localapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"ecsd/pkg/spec"
)

// LogOptions says which lines of a container's log are wanted.
type LogOptions struct {
	Follow bool      // go on until the container's task has stopped
	Tail   int       // only the last so many lines; negative: all
	Since  time.Time // only lines written at or after this
}

// LogLine is one line that a container wrote, without its newline. Text is what it wrote,
// byte for byte: whoever shows it on a terminal must strip control characters.
type LogLine struct {
	Time   time.Time
	Stream string // stdout or stderr
	Text   []byte
}

const (
	// errorTrailer tells of a failure after the answer has begun.
	errorTrailer = "Ecsd-Error"
	// followTick bounds how late a follower notices that its task has stopped, should
	// the event that says so have been lost.
	followTick = time.Second
	// lastWords is how long a follower waits for a further line once the task has stopped:
	// the log writer has then read the end of the container's pipes, but what it wrote may
	// not have been noticed yet.
	lastWords = 200 * time.Millisecond
)

// logsOperation streams a container's log in the CRI log format, one line a line:
// "<RFC 3339 time> <stdout|stderr> F <text>".
var logsOperation = operation{"GET /v1/logs/{task}/{container}", "read logs", false, func(s *Server, w http.ResponseWriter, r *http.Request) error {
	o, err := logOptions(r.URL.Query())
	if err != nil {
		return err
	}
	id, err := s.resolve(r.PathValue("task"))
	if err != nil {
		return err
	}
	container := r.PathValue("container")
	d, err := s.detail(id)
	if err != nil {
		return err
	}
	if !hasContainer(d.Task, container) {
		return &Error{CodeNotFound, "task " + id[:min(12, len(id))] + " has no container " + strconv.Quote(container) + ": it has " + containerNames(d.Task)}
	}
	if s.c.Logs == nil {
		return &Error{CodeUnavailable, "this agent keeps no logs"}
	}
	ctx := r.Context()
	touch := func() {}
	if o.Follow {
		var end func()
		ctx, touch, end = s.untilStopped(ctx, id)
		defer end()
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Trailer", errorTrailer)
	if o.Follow {
		_ = rc.Flush()
	}
	var buf []byte
	for line, err := range s.c.Logs(ctx, id, container, o) {
		if err != nil {
			if ctx.Err() == nil {
				w.Header().Set(errorTrailer, asError(err).Error())
			}
			return nil
		}
		touch()
		buf = appendCRI(buf[:0], line)
		if _, err := w.Write(buf); err != nil {
			return nil // the client is gone
		}
		if o.Follow && rc.Flush() != nil {
			return nil
		}
	}
	return nil
}}

// untilStopped is a context that ends some lastWords after the task has stopped and no
// line has come since; touch says that one came. The goroutine that watches ends with end,
// which the handler calls before it returns.
func (s *Server) untilStopped(parent context.Context, id string) (ctx context.Context, touch, end func()) {
	ctx, cancel := context.WithCancel(parent)
	lines := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		for !s.stopped(id) {
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
		for {
			select {
			case <-ctx.Done():
				return
			case <-lines:
			case <-time.After(lastWords):
				return
			}
		}
	}()
	touch = func() {
		select {
		case lines <- struct{}{}:
		default:
		}
	}
	return ctx, touch, func() { cancel(); <-done }
}

// stopped reports whether nothing further can come from a task.
func (s *Server) stopped(id string) bool {
	v, ok := s.view(id)
	return !ok || v.Status.LastStatus == spec.StatusStopped
}

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

// Logs yields the log of one container of a task. A failure is the last pair it yields.
func (c *Client) Logs(ctx context.Context, task, container string, o LogOptions) iter.Seq2[LogLine, error] {
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
	return func(yield func(LogLine, error) bool) {
		resp, err := c.do(ctx, http.MethodGet, "/v1/logs/"+url.PathEscape(task)+"/"+url.PathEscape(container), q, nil)
		if err != nil {
			yield(LogLine{}, err)
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
				if msg := resp.Trailer.Get(errorTrailer); msg != "" {
					yield(LogLine{}, &Error{CodeInternal, "log of " + container + ": " + msg})
				}
				return
			case err != nil:
				yield(LogLine{}, &Error{CodeUnavailable, "the agent has ended the log: it stops or restarts"})
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

func appendCRI(b []byte, l LogLine) []byte {
	b = l.Time.AppendFormat(b, time.RFC3339Nano)
	b = append(b, ' ')
	b = append(b, l.Stream...)
	b = append(b, " F "...)
	b = append(b, l.Text...)
	return append(b, '\n')
}

func parseCRI(raw []byte) (LogLine, bool) {
	at, rest, ok1 := bytes.Cut(bytes.TrimSuffix(raw, []byte("\n")), []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	_, text, ok3 := bytes.Cut(rest, []byte(" "))
	t, err := time.Parse(time.RFC3339Nano, string(at))
	return LogLine{Time: t, Stream: string(stream), Text: text}, ok1 && ok2 && ok3 && err == nil
}

func hasContainer(t spec.TaskStatus, name string) bool {
	for _, c := range t.Containers {
		if c.Name == name {
			return true
		}
	}
	return false
}

func containerNames(t spec.TaskStatus) string {
	out := ""
	for i, c := range t.Containers {
		if i > 0 {
			out += ", "
		}
		out += c.Name
	}
	return out
}
