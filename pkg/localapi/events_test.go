package localapi

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"ecsd/pkg/spec"
)

func TestEventsAreBounded(t *testing.T) {
	e := NewEvents(nil)
	for i := range ringSize + 10 {
		e.Add(spec.Event{Message: fmt.Sprint(i)})
	}
	all := e.Since(0)
	if len(all) != ringSize || all[0].Message != "10" || all[ringSize-1].Seq != ringSize+10 {
		t.Errorf("%d events, first %+v", len(all), all[0])
	}
	if got := e.Since(ringSize + 8); len(got) != 2 || got[0].Seq != ringSize+9 {
		t.Errorf("Since(n-2) = %+v", got)
	}
	if got := e.Since(ringSize + 10); len(got) != 0 {
		t.Errorf("Since(newest) = %+v", got)
	}
	if got := e.Since(1 << 40); len(got) != ringSize {
		t.Errorf("Since a number of an agent before = %d events, want all", len(got))
	}
}

func TestRepeatsAreCounted(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	e := NewEvents(func() time.Time { return at })
	crash := spec.Event{Object: "task/1", Reason: "Exited", Message: "exit code 1"}
	e.Add(crash)
	e.Add(spec.Event{Object: "task/2", Reason: "Exited", Message: "exit code 1"})
	at = at.Add(time.Minute)
	e.Add(crash)
	at = at.Add(time.Minute)
	e.Add(crash)
	all := e.Since(0)
	if len(all) != 2 || all[1].Object != "task/1" || all[1].Count != 3 || all[1].Seq != 4 || !all[1].Time.Equal(at) {
		t.Fatalf("events = %+v", all)
	}
	at = at.Add(repeatWithin + time.Second)
	e.Add(crash)
	if all = e.Since(0); len(all) != 3 || all[2].Count != 0 {
		t.Errorf("long after, events = %+v", all)
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := NewEvents(nil)
		e.Add(spec.Event{Message: "1"})
		e.Add(spec.Event{Message: "2"})
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ev := range e.Watch(ctx, 1) {
				got = append(got, ev.Message)
			}
		}()
		synctest.Wait()
		e.Add(spec.Event{Message: "3"})
		synctest.Wait()
		e.Add(spec.Event{Message: "4"})
		e.Add(spec.Event{Message: "5"})
		synctest.Wait()
		cancel()
		<-done
		if fmt.Sprint(got) != "[2 3 4 5]" {
			t.Errorf("watched %v", got)
		}
	})
}

func TestEventsOverTheSocket(t *testing.T) {
	h := start(t)
	h.events.Add(spec.Event{Object: "service/web", Message: "1"})
	h.events.Add(spec.Event{Object: "task/1", Message: "2"})
	read := func(f EventFilter) string {
		out := ""
		for ev, err := range h.Events(t.Context(), f) {
			if err != nil {
				t.Errorf("%+v: %v", f, err)
			}
			out += ev.Message
		}
		return out
	}
	if got := read(EventFilter{}); got != "12" {
		t.Errorf("all: %q", got)
	}
	if got := read(EventFilter{Since: 1}); got != "2" {
		t.Errorf("since 1: %q", got)
	}
	if got := read(EventFilter{Object: "service/web"}); got != "1" {
		t.Errorf("of the service: %q", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := ""
	for ev, err := range h.Events(ctx, EventFilter{Watch: true, Object: "task/1"}) {
		if err != nil {
			t.Fatal(err)
		}
		got += ev.Message
		switch got {
		case "2": // what was there has been read: something happens
			h.events.Add(spec.Event{Object: "service/web", Message: "x"})
			h.events.Add(spec.Event{Object: "task/1", Message: "3"})
		case "23":
			cancel()
		}
	}
	if got != "23" {
		t.Errorf("watched %q", got)
	}

	var last error
	for _, err := range h.Events(t.Context(), EventFilter{Watch: true}) {
		if last = err; err == nil {
			go func() { _ = h.end() }() // the agent stops while somebody watches
		}
	}
	if CodeOf(last) != CodeUnavailable {
		t.Errorf("after the agent has stopped: %v", last)
	}
}
