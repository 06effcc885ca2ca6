package localapi

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"ecsd/pkg/logs"
	"ecsd/pkg/spec"
)

func writeLog(t *testing.T, h *harness, task string, lines ...string) {
	t.Helper()
	path, _ := h.server.c.LogFile(task, "app")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, l := range lines {
		if _, err := fmt.Fprintln(f, l); err != nil {
			t.Fatal(err)
		}
	}
}

const at = "2026-11-22T10:00:0"

func TestLogs(t *testing.T) {
	h := start(t)
	writeLog(t, h, web1, at+"1.5Z stdout F one", at+"2Z stderr P tw", at+"2Z stderr F o \x1b[31m\xff", at+"3Z stdout F ")
	read := func(o LogOptions) (out []string) {
		for l, err := range h.Logs(t.Context(), web1, "app", o) {
			if err != nil {
				t.Errorf("%+v: %v", o, err)
			}
			out = append(out, l.Stream+" "+string(l.Text))
		}
		return out
	}
	all := []string{"stdout one", "stderr two \x1b[31m\xff", "stdout "}
	for _, c := range []struct {
		o    LogOptions
		want []string
	}{
		{LogOptions{Tail: -1}, all},
		{LogOptions{Tail: 0}, nil},
		{LogOptions{Tail: 1}, all[2:]},
		{LogOptions{Tail: -1, Since: time.Date(2026, 11, 22, 10, 0, 2, 0, time.UTC)}, all[1:]},
		{LogOptions{Tail: -1, Since: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}, nil},
	} {
		if got := read(c.o); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
			t.Errorf("Logs(%+v) = %q, want %q", c.o, got, c.want)
		}
	}
}

func TestLogErrors(t *testing.T) {
	h := start(t)
	for name, c := range map[string]struct {
		task, container string
		want            string
	}{
		"unknown task":      {"ffff", "app", "there is none"},
		"unknown container": {web1, "../app", "it has app"},
		"no log":            {web1, "app", "not started yet"},
	} {
		var last error
		for _, err := range h.Logs(t.Context(), c.task, c.container, LogOptions{Tail: -1}) {
			last = err
		}
		if CodeOf(last) != CodeNotFound || !strings.Contains(fmt.Sprint(last), c.want) {
			t.Errorf("%s: %v", name, last)
		}
	}
	for _, q := range []string{"tail=x", "since=yesterday"} {
		resp, err := h.http.Get("http://ecsd/v1/logs/" + web1 + "/app?" + q)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("?%s: %s", q, resp.Status)
		}
	}
}

// TestFollowEndsWithTheTask follows a log while it grows, and sees the lines written
// before the task stopped, and the end.
func TestFollowEndsWithTheTask(t *testing.T) {
	h := start(t)
	writeLog(t, h, db, at+"1Z stdout F one")
	var got []string
	for l, err := range h.Logs(t.Context(), db, "app", LogOptions{Follow: true, Tail: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(l.Text))
		switch len(got) {
		case 1:
			writeLog(t, h, db, at+"2Z stdout F two")
		case 2:
			writeLog(t, h, db, at+"3Z stdout F last words")
			if err := h.node.stop(db, ""); err != nil {
				t.Fatal(err)
			}
			h.events.Add(spec.Event{Object: "task/" + db, Reason: "Stopped"})
		}
	}
	if want := "[one two last words]"; fmt.Sprint(got) != want {
		t.Errorf("followed %v, want %s", got, want)
	}
}

func TestCRIRoundTrip(t *testing.T) {
	for _, l := range []logs.Line{
		{Time: time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC), Stream: "stdout", Text: []byte("a b  c ")},
		{Stream: "stderr", Text: []byte{}, More: true},
		{Stream: "stdout", Text: []byte{0, 1, 0xff}, Gap: true},
		{Stream: "stdout", Text: []byte("F x"), Gap: true, More: true},
	} {
		got, ok := parseCRI(appendCRI(nil, l))
		if !ok || !got.Time.Equal(l.Time) || got.Stream != l.Stream || !bytes.Equal(got.Text, l.Text) || got.More != l.More || got.Gap != l.Gap {
			t.Errorf("%+v became %+v, %v", l, got, ok)
		}
	}
	for _, raw := range []string{"", "\n", "x stdout F a", at + "1Z", at + "1Z stdout", at + "1Z stdout F"} {
		if l, ok := parseCRI([]byte(raw)); ok {
			t.Errorf("parseCRI(%q) = %+v", raw, l)
		}
	}
}

// TestFollowTellsThatTheAgentStops: the end of the agent is not the end of the log.
func TestFollowTellsThatTheAgentStops(t *testing.T) {
	h := start(t)
	writeLog(t, h, db, at+"1Z stdout F one")
	var last error
	for _, err := range h.Logs(t.Context(), db, "app", LogOptions{Follow: true, Tail: -1}) {
		if last = err; err == nil {
			go func() { _ = h.end() }()
		}
	}
	if CodeOf(last) != CodeUnavailable {
		t.Errorf("after the agent has stopped: %v", last)
	}
}
