package localapi

import (
	"context"
	"net/http"
	"time"
)

// Info is what an agent says of itself.
type Info struct {
	Version    string    `json:"version"`
	Revision   string    `json:"revision,omitempty"`
	GoVersion  string    `json:"goVersion,omitempty"`
	PID        int       `json:"pid"`
	StartedAt  time.Time `json:"startedAt"`
	Cluster    string    `json:"cluster"`
	Manifests  string    `json:"manifests,omitempty"` // directory
	DataDir    string    `json:"dataDir"`
	LogDir     string    `json:"logDir"`
	Containerd string    `json:"containerd,omitempty"` // with its version
	Runtime    string    `json:"runtime,omitempty"`    // with its version
	NotReady   string    `json:"notReady,omitempty"`   // why the agent is not ready; empty when it is
}

var infoOperation = operation{"GET /v1/info", "read the agent's state", false, answer(func(s *Server, _ *http.Request) (any, error) {
	if s.c.Info == nil {
		return Info{}, nil
	}
	return s.c.Info(), nil
})}

// Info asks the agent who it is and whether it is ready.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var i Info
	return i, c.get(ctx, "/v1/info", nil, &i)
}
