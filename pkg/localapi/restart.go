package localapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"ecsd/pkg/spec"
)

type restartServiceAnswer struct {
	Service spec.ServiceStatus `json:"service"`
}

var restartServiceOperation = operation{"POST /v1/services/{service}/restart", "restart a service", true, answer(func(s *Server, r *http.Request) (any, error) {
	name := r.PathValue("service")
	if _, err := s.service(name); err != nil {
		return nil, err
	}
	if s.c.RestartService == nil {
		return nil, &Error{CodeUnavailable, "this agent restarts no services by command"}
	}
	if err := s.c.RestartService(name); err != nil {
		return nil, err
	}
	svc, err := s.service(name)
	return restartServiceAnswer{svc}, err
})}

// RestartService replaces a service's tasks by new ones of the same definition, a rolling
// deployment within its percentages. It does not wait.
func (c *Client) RestartService(ctx context.Context, name string) (spec.ServiceStatus, error) {
	var a restartServiceAnswer
	err := c.post(ctx, "/v1/services/"+url.PathEscape(name)+"/restart", struct{}{}, &a)
	return a.Service, err
}

func (s *Server) service(name string) (spec.ServiceStatus, error) {
	all := s.services()
	i := slices.IndexFunc(all, func(x spec.ServiceStatus) bool { return x.ServiceName == name })
	if i < 0 {
		return spec.ServiceStatus{}, &Error{CodeNotFound, "service " + name + ": there is none: ecsd status lists what the manifests define"}
	}
	return all[i], nil
}
