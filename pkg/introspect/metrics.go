package introspect

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts HTTP requests, those of this package and of whoever else is given Wrap.
// Its labels are closed sets: the handler is a name given by code, never a path that a
// client sent, and an unknown method is "other".
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics makes the metrics and registers them when reg is not nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_http_requests_total",
			Help: "HTTP requests served.",
		}, []string{"handler", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ecsd_http_request_duration_seconds",
			Help:    "HTTP request time.",
			Buckets: []float64{.0005, .001, .005, .01, .05, .1, .5, 1, 5},

			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 60,
		}, []string{"handler", "method"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration)
	}
	return m
}

// Wrap counts the requests that h serves under that name. A nil Metrics counts nothing.
func (m *Metrics) Wrap(name string, h http.Handler) http.Handler {
	if m == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &statusRecorder{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			method := knownMethod(r.Method)
			m.requests.WithLabelValues(name, method, strconv.Itoa(rec.code)).Inc()
			m.duration.WithLabelValues(name, method).Observe(time.Since(start).Seconds())
		}()
		h.ServeHTTP(rec, r)
	})
}

func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete:
		return m
	}
	return "other"
}

// statusRecorder remembers the status an answer began with.
type statusRecorder struct {
	http.ResponseWriter
	code  int
	wrote bool
}

func (s *statusRecorder) WriteHeader(code int) {
	if !s.wrote {
		s.code, s.wrote = code, true
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *statusRecorder) Write(b []byte) (int, error) {
	s.wrote = true
	return s.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find the writer that can flush.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }
