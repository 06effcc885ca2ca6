package service

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of this package. Tasks wanted and running are counted where they are carried out
// (pkg/reconcile).
type metrics struct {
	storeErrors *prometheus.CounterVec // by operation
}

// storeOperations are all values of the label operation.
var storeOperations = []string{"load", "save_task", "save_service", "remove_service"}

// newMetrics makes the metrics, registered with reg when there is one.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		storeErrors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_state_store_errors_total",
			Help: "State store failures.",
		}, []string{"operation"}),
	}
	for _, o := range storeOperations {
		m.storeErrors.WithLabelValues(o)
	}
	return m
}
