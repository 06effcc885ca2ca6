package containerd

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the runtime counts. Labels are bounded: operations are the methods of
// containerd's services, registries the hosts images come from (at most maxRegistries).
type metrics struct {
	up            prometheus.Gauge
	operations    *prometheus.CounterVec
	errors        *prometheus.CounterVec
	durations     *prometheus.HistogramVec
	reconnects    prometheus.Counter
	events        *prometheus.CounterVec
	eventLastSeen prometheus.Gauge
	orphans       *prometheus.CounterVec
	pulls         *prometheus.CounterVec
	pullDurations *prometheus.HistogramVec
	pullBytes     *prometheus.CounterVec
	pullsInFlight prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecsd_runtime_up", Help: "1 when containerd answers.",
		}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_runtime_operations_total", Help: "Runtime calls by operation.",
		}, []string{"operation"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_runtime_operations_errors_total", Help: "Runtime call failures by gRPC code.",
		}, []string{"operation", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ecsd_runtime_operations_duration_seconds", Help: "Runtime call time.",
			Buckets:                     []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"operation"}),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ecsd_runtime_reconnects_total", Help: "Times the runtime connection was re-established.",
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_runtime_events_total", Help: "Runtime events received.",
		}, []string{"topic"}),
		eventLastSeen: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecsd_runtime_event_last_seen_timestamp_seconds", Help: "Unix time of the last runtime event.",
		}),
		orphans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_orphans_removed_total", Help: "Leaked things removed.",
		}, []string{"kind"}),
		pulls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_image_pulls_total", Help: "Image pulls by registry and bounded result.",
		}, []string{"registry", "result"}),
		pullDurations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ecsd_image_pull_duration_seconds", Help: "Image pull time including unpack.",
			Buckets:                     []float64{.05, .25, 1, 2.5, 5, 10, 30, 60, 300, 1800},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"registry"}),
		pullBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_image_pull_bytes_total", Help: "Compressed bytes downloaded.",
		}, []string{"registry"}),
		pullsInFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecsd_image_pulls_in_flight", Help: "Pulls running now.",
		}),
	}
	for _, kind := range []string{"container", "snapshot", "netns", "cgroup", "log"} {
		m.orphans.WithLabelValues(kind)
	}
	for _, topic := range []string{"exit", "oom"} {
		m.events.WithLabelValues(topic)
	}
	if r != nil {
		r.MustRegister(m.up, m.operations, m.errors, m.durations, m.reconnects, m.events,
			m.eventLastSeen, m.orphans, m.pulls, m.pullDurations, m.pullBytes, m.pullsInFlight)
	}
	return m
}
