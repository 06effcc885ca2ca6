package localapi

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"ecsd/pkg/spec"
)

// defaultStopReason is ECS's own word for a stop without a reason.
const defaultStopReason = "Task stopped by user"

// maxReason is the length that ECS allows a reason to have.
const maxReason = 1024

type stopTaskRequest struct {
	Reason string `json:"reason"`
}

type stopTaskAnswer struct {
	Task spec.TaskStatus `json:"task"`
}

var stopTaskOperation = operation{"POST /v1/tasks/{task}/stop", "stop a task", true, answer(func(s *Server, r *http.Request) (any, error) {
	var req stopTaskRequest
	if err := readBody(r, &req); err != nil {
		return nil, err
	}
	switch {
	case len(req.Reason) > maxReason:
		return nil, &Error{CodeInvalid, "reason: may have 1024 bytes at most"}
	case !utf8.ValidString(req.Reason) || strings.ContainsFunc(req.Reason, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return nil, &Error{CodeInvalid, "reason: may not have control characters"}
	case req.Reason == "":
		req.Reason = defaultStopReason
	}
	id, err := s.resolve(r.PathValue("task"))
	if err != nil {
		return nil, err
	}
	if s.c.StopTask == nil {
		return nil, &Error{CodeUnavailable, "this agent stops no tasks by command"}
	}
	if err := s.c.StopTask(id, req.Reason); err != nil {
		return nil, err
	}
	d, err := s.detail(id)
	return stopTaskAnswer{d.Task}, err
})}

// StopTask marks a task to be stopped, by id, id prefix or ARN, and does not wait: its
// status as it is then comes back. A task that has stopped already is no error. "" is
// ECS's "Task stopped by user".
func (c *Client) StopTask(ctx context.Context, task, reason string) (spec.TaskStatus, error) {
	var a stopTaskAnswer
	err := c.post(ctx, "/v1/tasks/"+url.PathEscape(task)+"/stop", stopTaskRequest{reason}, &a)
	return a.Task, err
}
