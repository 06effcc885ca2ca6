package localapi

import (
	"bufio"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"ecsd/pkg/spec"
)

// eventsOperation streams events as lines of JSON: those above ?since=, and with ?watch=1
// each further one as it happens.
var eventsOperation = operation{"GET /v1/events", "read events", false, func(s *Server, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	var since uint64
	if v := q.Get("since"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return &Error{CodeInvalid, "since: " + strconv.Quote(v) + " is not the number of an event"}
		}
		since = n
	}
	object := q.Get("object")
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	if !isTrue(q.Get("watch")) {
		for _, e := range s.c.Events.Since(since) {
			if object == "" || e.Object == object {
				if enc.Encode(e) != nil {
					return nil
				}
			}
		}
		return nil
	}
	_ = rc.Flush() // the headers at once: the client knows that it watches
	for e := range s.c.Events.Watch(r.Context(), since) {
		if object != "" && e.Object != object {
			continue
		}
		if enc.Encode(e) != nil || rc.Flush() != nil {
			return nil // the client is gone
		}
	}
	return nil
}}

// EventFilter says which events to read. The zero filter is all that are remembered.
type EventFilter struct {
	Since  uint64 // only those with a higher Seq
	Object string // only those of this object, "task/ID" or "service/NAME"
	Watch  bool   // go on until the context ends
}

// Events yields events, oldest first. A failure is the last pair that it yields. When it
// watches and the agent stops, that is an error with CodeUnavailable.
func (c *Client) Events(ctx context.Context, f EventFilter) iter.Seq2[spec.Event, error] {
	q := url.Values{}
	if f.Since > 0 {
		q.Set("since", strconv.FormatUint(f.Since, 10))
	}
	if f.Object != "" {
		q.Set("object", f.Object)
	}
	if f.Watch {
		q.Set("watch", "1")
	}
	return func(yield func(spec.Event, error) bool) {
		resp, err := c.do(ctx, http.MethodGet, "/v1/events", q, nil)
		if err != nil {
			yield(spec.Event{}, err)
			return
		}
		defer resp.Body.Close()
		in := bufio.NewScanner(resp.Body)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			var e spec.Event
			if err := json.Unmarshal(in.Bytes(), &e); err != nil {
				yield(e, &Error{CodeInternal, "the agent sent an event that cannot be read: " + err.Error()})
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		switch {
		case ctx.Err() != nil:
		case in.Err() != nil, f.Watch:
			yield(spec.Event{}, &Error{CodeUnavailable, "the agent has ended the stream of events: it stops or restarts"})
		}
	}
}
