package localapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"ecsd/pkg/spec"
)

// TaskFilter says which tasks to list. The zero filter is all that have not stopped.
type TaskFilter struct {
	Stopped bool // stopped ones too, as far as they are remembered
	Service string
	Family  string
}

type listTasksAnswer struct {
	Tasks []spec.TaskStatus `json:"tasks"`
}

var listTasksOperation = operation{"GET /v1/tasks", "list tasks", false, answer(func(s *Server, r *http.Request) (any, error) {
	q := r.URL.Query()
	f := TaskFilter{Stopped: isTrue(q.Get("stopped")), Service: q.Get("service"), Family: q.Get("family")}
	return listTasksAnswer{s.tasks(f)}, nil
})}

// Tasks lists tasks, ordered by family and, within one, by age: the newest last.
func (c *Client) Tasks(ctx context.Context, f TaskFilter) ([]spec.TaskStatus, error) {
	q := url.Values{}
	if f.Stopped {
		q.Set("stopped", "1")
	}
	if f.Service != "" {
		q.Set("service", f.Service)
	}
	if f.Family != "" {
		q.Set("family", f.Family)
	}
	var a listTasksAnswer
	return a.Tasks, c.get(ctx, "/v1/tasks", q, &a)
}

// tasks is what matches, of the tasks that are observed and of those that are history; the
// former win where both know one.
func (s *Server) tasks(f TaskFilter) []spec.TaskStatus {
	out := []spec.TaskStatus{}
	seen := map[string]bool{}
	add := func(t spec.TaskStatus) {
		if seen[t.TaskID] {
			return
		}
		seen[t.TaskID] = true
		if t.LastStatus == spec.StatusStopped && !f.Stopped ||
			f.Service != "" && f.Service != t.Service || f.Family != "" && f.Family != t.Family {
			return
		}
		out = append(out, t)
	}
	if s.c.Views != nil {
		for _, v := range s.c.Views() {
			add(v.Status)
		}
	}
	if s.c.History != nil {
		for _, t := range s.c.History() {
			add(t)
		}
	}
	slices.SortFunc(out, compareTasks)
	return out
}

func compareTasks(a, b spec.TaskStatus) int {
	if c := strings.Compare(a.Family, b.Family); c != 0 {
		return c
	}
	if a.CreatedAt != nil && b.CreatedAt != nil {
		if c := a.CreatedAt.Compare(*b.CreatedAt); c != 0 {
			return c
		}
	}
	if a.Slot != b.Slot {
		return a.Slot - b.Slot
	}
	return strings.Compare(a.TaskID, b.TaskID)
}

func isTrue(v string) bool { return v == "1" || v == "true" }
