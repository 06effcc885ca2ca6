package localapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"ecsd/pkg/spec"
)

type listServicesAnswer struct {
	Services []spec.ServiceStatus `json:"services"`
}

var listServicesOperation = operation{"GET /v1/services", "list services", false, answer(func(s *Server, _ *http.Request) (any, error) {
	return listServicesAnswer{s.services()}, nil
})}

// Services lists the node's services, ordered by name.
func (c *Client) Services(ctx context.Context) ([]spec.ServiceStatus, error) {
	var a listServicesAnswer
	return a.Services, c.get(ctx, "/v1/services", nil, &a)
}

func (s *Server) services() []spec.ServiceStatus {
	if s.c.Services == nil {
		return []spec.ServiceStatus{}
	}
	out := append([]spec.ServiceStatus{}, s.c.Services()...)
	slices.SortFunc(out, func(a, b spec.ServiceStatus) int { return strings.Compare(a.ServiceName, b.ServiceName) })
	return out
}
