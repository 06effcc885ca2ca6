package introspect

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/spec"
)

// Config is what the port tells of. All functions must be quick, must not call the
// container runtime (a hung one may not hang metrics or health) and may be called from
// several goroutines at once. A nil function means: nothing to tell.
type Config struct {
	Cluster              string // name of the cluster; "" is ECS's "default"
	ContainerInstanceARN string // "" on a node without a control plane
	Version              string // of ecsd, "v0.1.0"
	Revision             string // source revision it was built from, may be ""
	License              string // text of /license; "" is a line that names it

	Views   func() []reconcile.View  // the tasks of the node as they are now
	Stopped func() []spec.TaskStatus // ended tasks still remembered; those that Views has too are left out

	Gatherer prometheus.Gatherer // what /metrics shows; nil leaves /metrics out
	Healthy  func() error        // nil error: the agent lives and its loop turns
	Ready    func() error        // nil error: first reconcile done, runtime reachable

	Hosts   []string // further names that a Host header may carry, without port
	Metrics *Metrics // counts requests; nil does not
	Log     *slog.Logger
}

// get is the only kind of route: it answers from query values alone.
type get func(q url.Values) (any, error)

// httpError is an answer other than 200.
type httpError struct {
	code int
	text string
}

func (e *httpError) Error() string { return e.text }

// text is an answer that is sent as text/plain; all others are sent as JSON.
type text string

// routes is the whole of what the port answers, by exact path. It is written out so that
// a reader, and the test, sees all of it.
func (c Config) routes() map[string]get {
	return map[string]get{
		"/":            c.commands,
		"/v1/metadata": c.metadata,
		"/v1/tasks":    c.tasks,
		"/license":     c.license,
		"/healthz":     probe(c.Healthy),
		"/readyz":      probe(c.Ready),
	}
}

// Handler answers the routes of the port and nothing else: another path is 404, another
// method than GET or HEAD is 405, a Host header that names somebody else is 421.
func Handler(c Config) http.Handler {
	routes := c.routes()
	handlers := make(map[string]http.Handler, len(routes)+1)
	for path, g := range routes {
		handlers[path] = c.Metrics.Wrap(path, g)
	}
	if c.Gatherer != nil {
		handlers["/metrics"] = c.Metrics.Wrap("/metrics", metricsHandler(c.Gatherer, c.Log))
	}
	notFound := c.Metrics.Wrap("other", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not found: GET / lists what there is", http.StatusNotFound)
	}))
	return checkHost(c.Hosts, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		h, ok := handlers[r.URL.Path]
		if !ok {
			h = notFound
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h = c.Metrics.Wrap("other", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Allow", "GET, HEAD")
				http.Error(w, "this port only reads: use ecsd's commands, which act through its socket", http.StatusMethodNotAllowed)
			}))
		}
		h.ServeHTTP(w, r)
	}))
}

// MetricsHandler serves /metrics alone, for a listener that is reached from elsewhere and
// has its own TLS and authentication. It checks no Host header.
func MetricsHandler(g prometheus.Gatherer, m *Metrics, log *slog.Logger) http.Handler {
	metrics := m.Wrap("/metrics", metricsHandler(g, log))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		switch {
		case r.URL.Path != "/metrics":
			http.Error(w, "not found: this listener has /metrics only", http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		default:
			metrics.ServeHTTP(w, r)
		}
	})
}

// metricsHandler shows what can be gathered even when one collector fails, and lets few
// scrapes run at once, so that a crowd of scrapers costs the agent no more than one does.
func metricsHandler(g prometheus.Gatherer, log *slog.Logger) http.Handler {
	opts := promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		EnableOpenMetrics:   true,
	}
	if log != nil {
		opts.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	}
	return promhttp.HandlerFor(g, opts)
}

// ServeHTTP lets a route see the query and nothing else of the request.
func (g get) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, "query string: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := g(q)
	if err != nil {
		code := http.StatusInternalServerError
		if he, ok := errors.AsType[*httpError](err); ok {
			code = he.code
		}
		http.Error(w, err.Error(), code)
		return
	}
	if t, ok := answer.(text); ok {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(t))
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// harden sets the headers that keep a browser from making anything of an answer. There
// is no CORS header: a web page may not read this port.
func harden(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("Cache-Control", "no-store")
}

func (c Config) license(url.Values) (any, error) {
	if c.License != "" {
		return text(c.License), nil
	}
	return text("ecsd is licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"), nil
}

// probe is a health route: 200 "ok", or 503 with the reason.
func probe(f func() error) get {
	return func(url.Values) (any, error) {
		if f != nil {
			if err := f(); err != nil {
				return nil, &httpError{http.StatusServiceUnavailable, strings.TrimSpace(err.Error())}
			}
		}
		return text("ok\n"), nil
	}
}
