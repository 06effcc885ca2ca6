package localapi

import (
	"context"
	"net/http"
)

// syncOperation makes sure that what is asked next is answered by what the manifest files
// say now. It stops and starts nothing that the files would not have started by themselves
// in a moment, so it is no acting call.
var syncOperation = operation{"POST /v1/sync", "read the manifests now", false, answer(func(s *Server, r *http.Request) (any, error) {
	if s.c.Sync == nil {
		return struct{}{}, nil
	}
	return struct{}{}, s.c.Sync(r.Context())
})}

// Sync returns when a scan of the manifest directory that began after the call has been
// taken over: what is asked of the agent afterwards is about the files as they are.
func (c *Client) Sync(ctx context.Context) error {
	return c.post(ctx, "/v1/sync", struct{}{}, &struct{}{})
}
