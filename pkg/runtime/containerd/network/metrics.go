package network

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one Network.
type metrics struct {
	operations *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	addresses  prometheus.Gauge
}

// newMetrics registers with r, unless it is nil.
func newMetrics(r prometheus.Registerer, bridge string) *metrics {
	addresses := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ecsd_network_addresses_allocated",
		Help: "Addresses in use per network.",
	}, []string{"network"})
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_network_operations_total",
			Help: "Network operations, by their result.",
		}, []string{"operation", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "ecsd_network_operations_duration_seconds",
			Help:                        "How long network operations took.",
			Buckets:                     []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .5, 1, 5},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"operation"}),
		addresses: addresses.WithLabelValues(bridge),
	}
	if r != nil {
		r.MustRegister(m.operations, m.duration, addresses)
	}
	return m
}

// observe counts one operation: defer m.observe("attach", time.Now(), &err).
func (m *metrics) observe(operation string, began time.Time, err *error) {
	result := "success"
	if *err != nil {
		result = "error"
	}
	m.operations.WithLabelValues(operation, result).Inc()
	m.duration.WithLabelValues(operation).Observe(time.Since(began).Seconds())
}
