package introspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"
)

// Limits of the port's server. Answers are small and made from memory: who takes longer
// than this to ask or to take one is stuck or means harm.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
	shutdownTimeout   = 3 * time.Second

	// maxConnections of a listener; more wait. Each costs memory that tasks could use.
	maxConnections = 256
)

// Listen opens the addresses. An address of IPv6's loopback is left out on a machine
// without IPv6, and with port 0 it gets the port of the address before it. No address
// opens nothing. When one fails, those opened before are closed again.
func Listen(ctx context.Context, addrs []string) ([]net.Listener, error) {
	var out []net.Listener
	var lc net.ListenConfig
	for _, addr := range addrs {
		host, port, err := net.SplitHostPort(addr)
		if err == nil {
			if port == "0" && host == "::1" && len(out) > 0 {
				_, port, _ = net.SplitHostPort(out[len(out)-1].Addr().String())
			}
			var l net.Listener
			if l, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, port)); err == nil {
				out = append(out, netutil.LimitListener(l, maxConnections))
				continue
			}
			if host == "::1" && noIPv6(err) && len(addrs) > 1 {
				continue
			}
		}
		for _, l := range out {
			_ = l.Close()
		}
		return nil, fmt.Errorf("%w: choose a free address of this machine", err)
	}
	return out, nil
}

// Serve answers on the listeners until ctx ends; then it closes them, lets answers under
// way finish for a moment, and returns nil. It starts one goroutine a listener, and all
// have ended when it returns. Without listeners it waits for ctx.
func Serve(ctx context.Context, listeners []net.Listener, h http.Handler, log *slog.Logger) error {
	srv := newServer(h, log)
	return serve(ctx, []*http.Server{srv}, len(listeners), func(i int) error { return srv.Serve(listeners[i]) })
}

// ServeMetrics serves h, a MetricsHandler, on the listeners, with the TLS and basic
// authentication that a Prometheus web-config file asks for; "" is plain HTTP without
// authentication. The file is read anew for every connection, so certificates and
// passwords can be changed in place; one that is wrong at the start is an error.
func ServeMetrics(ctx context.Context, listeners []net.Listener, h http.Handler, webConfig string, log *slog.Logger) error {
	if webConfig != "" {
		if err := web.Validate(webConfig); err != nil {
			return fmt.Errorf("web configuration %s: %w: see the Prometheus exporter-toolkit's format", webConfig, err)
		}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// One server a listener: the toolkit replaces the handler of the server it is given.
	servers := make([]*http.Server, len(listeners))
	for i := range servers {
		servers[i] = newServer(h, log)
	}
	systemd := false
	flags := &web.FlagConfig{WebListenAddresses: &[]string{}, WebSystemdSocket: &systemd, WebConfigFile: &webConfig}
	return serve(ctx, servers, len(listeners), func(i int) error {
		return web.Serve(listeners[i], servers[i], flags, log)
	})
}

// serve runs one for each of n listeners until ctx or one of them ends, then shuts the
// servers down and waits for all.
func serve(ctx context.Context, servers []*http.Server, n int, one func(i int) error) error {
	done := make(chan error, n)
	for i := range n {
		go func() { done <- one(i) }()
	}
	var err error
	running := n
	select {
	case <-ctx.Done():
	case err = <-done:
		running--
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	for _, s := range servers {
		if s.Shutdown(stop) != nil {
			_ = s.Close() // who still asks after shutdownTimeout gets no answer
		}
	}
	for range running {
		<-done
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
	if log != nil {
		s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	}
	return s
}

// noIPv6 reports whether the machine has no ::1 to listen on.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)
}
