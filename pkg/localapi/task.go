package localapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/spec"
)

// TaskDetail is all that is known of one task.
type TaskDetail struct {
	Task           spec.TaskStatus       `json:"task"`
	TaskDefinition *spec.TaskDefinition  `json:"taskDefinition,omitempty"` // masked; nil for a task that is history
	Failures       int                   `json:"failures,omitempty"`       // consecutive failed steps
	RetryAt        *time.Time            `json:"retryAt,omitempty"`        // when the next try is, while backing off
	Pulls          map[string]PullState  `json:"pulls,omitempty"`          // by container name
	HealthChecks   map[string]CheckState `json:"healthChecks,omitempty"`   // by container name
	Events         []spec.Event          `json:"events,omitempty"`         // of this task, oldest first
}

// PullState is how far the pull of a container's image is.
type PullState struct {
	StartedAt time.Time  `json:"startedAt"`
	StoppedAt *time.Time `json:"stoppedAt,omitempty"`
	Error     string     `json:"error,omitempty"`
}

// CheckState is the last verdict of a container's health check.
type CheckState struct {
	Status   string     `json:"status"`
	Since    *time.Time `json:"since,omitempty"`
	ExitCode int        `json:"exitCode"`
	Output   string     `json:"output,omitempty"`
}

var describeTaskOperation = operation{"GET /v1/tasks/{task}", "describe a task", false, answer(func(s *Server, r *http.Request) (any, error) {
	id, err := s.resolve(r.PathValue("task"))
	if err != nil {
		return nil, err
	}
	return s.detail(id)
})}

// Task describes one task, by id, id prefix or ARN.
func (c *Client) Task(ctx context.Context, task string) (TaskDetail, error) {
	var d TaskDetail
	return d, c.get(ctx, "/v1/tasks/"+url.PathEscape(task), nil, &d)
}

func (s *Server) detail(id string) (TaskDetail, error) {
	var d TaskDetail
	switch v, ok := s.view(id); {
	case ok:
		d = detailOf(v, time.Now())
	default:
		all := s.tasks(TaskFilter{Stopped: true})
		i := slices.IndexFunc(all, func(t spec.TaskStatus) bool { return t.TaskID == id })
		if i < 0 {
			return d, noSuchTask(id)
		}
		d.Task = all[i]
	}
	for _, e := range s.c.Events.Since(0) {
		if e.Object == "task/"+id {
			d.Events = append(d.Events, e)
		}
	}
	return d, nil
}

func detailOf(v reconcile.View, now time.Time) TaskDetail {
	td := Mask(v.Want.Definition)
	d := TaskDetail{Task: v.Status, TaskDefinition: &td, Failures: v.Failures}
	if v.Retry > 0 {
		at := now.Add(v.Retry)
		d.RetryAt = &at
	}
	for name, p := range v.Have.Pulls {
		if p.Started.IsZero() {
			continue
		}
		if d.Pulls == nil {
			d.Pulls = map[string]PullState{}
		}
		ps := PullState{StartedAt: p.Started.Wall}
		if !p.Done.IsZero() {
			ps.StoppedAt = &p.Done.Wall
		}
		if p.Err != nil {
			ps.Error = p.Err.Error()
		}
		d.Pulls[name] = ps
	}
	for name, h := range v.Have.Health {
		if d.HealthChecks == nil {
			d.HealthChecks = map[string]CheckState{}
		}
		cs := CheckState{Status: h.Status, ExitCode: h.Code, Output: h.Output}
		if !h.Since.IsZero() {
			cs.Since = &h.Since.Wall
		}
		d.HealthChecks[name] = cs
	}
	return d
}

func (s *Server) view(id string) (reconcile.View, bool) {
	if s.c.Views == nil {
		return reconcile.View{}, false
	}
	for _, v := range s.c.Views() {
		if v.Status.TaskID == id {
			return v, true
		}
	}
	return reconcile.View{}, false
}

// resolve finds the one task that is meant.
func (s *Server) resolve(given string) (string, error) {
	all := s.tasks(TaskFilter{Stopped: true})
	ids := make([]string, len(all))
	for i, t := range all {
		ids[i] = t.TaskID
	}
	return Resolve(given, ids)
}

// Resolve finds the id that is meant by a whole id, the beginning of one, as in docker, or
// a task ARN.
func Resolve(given string, ids []string) (string, error) {
	want := given
	if strings.HasPrefix(given, "arn:") {
		want = given[strings.LastIndexByte(given, '/')+1:]
	}
	want = strings.ToLower(want)
	var found []string
	for _, id := range ids {
		if id == want {
			return id, nil
		}
		if want != "" && strings.HasPrefix(id, want) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return "", noSuchTask(given)
	case 1:
		return found[0], nil
	}
	short := make([]string, 0, 4)
	for _, id := range found[:min(3, len(found))] {
		short = append(short, id[:min(len(id), max(12, len(want)+4))])
	}
	if len(found) > 3 {
		short = append(short, "…")
	}
	return "", &Error{CodeAmbiguous, "task " + given + ": several ids begin so: " + strings.Join(short, ", ") + ": give more of it"}
}

func noSuchTask(given string) *Error {
	return &Error{CodeNotFound, "task " + given + ": there is none: ecsd ps -a lists all that are remembered"}
}
