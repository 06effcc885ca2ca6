package health

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	duration prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ecsd_health_check_duration_seconds",
			Help:    "Time a health command took.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
	}
	if r != nil {
		r.MustRegister(m.duration)
	}
	return m
}
