package containerd

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/status"
)

// deadlines bound single calls, by the end of the method's name. A call to a containerd
// that hangs (or is stopped) would otherwise block for ever. Calls that start a process
// wait for the OCI runtime, which takes long on a loaded machine. 0 is no deadline of its
// own: the caller's context bounds it.
var deadlines = map[string]time.Duration{
	"tasks.Create":      60 * time.Second,
	"tasks.Start":       30 * time.Second,
	"tasks.Delete":      30 * time.Second,
	"tasks.Exec":        30 * time.Second,
	"tasks.Wait":        0, // as long as the process
	"diff.Apply":        0, // as long as a layer takes to unpack
	"content.Delete":    30 * time.Second,
	"images.Delete":     60 * time.Second, // collects garbage before it returns
	"snapshots.Prepare": 30 * time.Second,
	"snapshots.Commit":  60 * time.Second,
	"snapshots.Remove":  60 * time.Second, // deletes a file tree
	"leases.Delete":     60 * time.Second,
}

const defaultDeadline = 10 * time.Second

// operation turns "/containerd.services.tasks.v1.Tasks/Create" into "tasks.Create".
func operation(method string) string {
	service, call, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	parts := strings.Split(service, ".")
	if len(parts) < 3 {
		return call
	}
	return parts[len(parts)-3] + "." + call // before the version and the service's long name
}

// intercept gives each call its deadline, counts it and times it.
func (m *metrics) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	op := operation(method)
	limit, ok := deadlines[op]
	if !ok {
		limit = defaultDeadline
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	if op == "diff.Apply" {
		defer unpacking(ctx)()
	}
	began := time.Now()
	err := invoke(ctx, method, req, reply, cc, opts...)
	m.operations.WithLabelValues(op).Inc()
	m.durations.WithLabelValues(op).Observe(time.Since(began).Seconds())
	// "Not found" is how containerd answers most questions of ours: no failure.
	if code := status.Code(err).String(); err != nil && code != "NotFound" {
		m.errors.WithLabelValues(op, code).Inc()
	}
	return err
}

// dialOptions make the client find a containerd that was restarted within a second. While
// there is none, calls fail at once.
func (m *metrics) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithChainUnaryInterceptor(m.intercept),
	}
}
