package agent

import (
	goruntime "runtime"

	"github.com/prometheus/client_golang/prometheus"

	"ecsd/pkg/runtime"
)

type metrics struct {
	buildInfo *prometheus.GaugeVec
	started   prometheus.Gauge
	ready     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		buildInfo: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ecsd_build_info", Help: "Constant 1 with build and runtime versions.",
		}, []string{"version", "revision", "goversion", "containerd_version", "runc_version"}),
		started: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecsd_start_time_seconds", Help: "Unix time the agent finished start-up recovery.",
		}),
		ready: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecsd_ready", Help: "1 when the agent is ready (first full reconcile done, runtime reachable).",
		}),
	}
	r.MustRegister(m.buildInfo, m.started, m.ready)
	return m
}

// build sets the one series of ecsd_build_info.
func (m *metrics) build(b Build, v runtime.Versions) {
	m.buildInfo.Reset()
	m.buildInfo.WithLabelValues(b.Version, b.Revision, goruntime.Version(), v.Containerd, v.Runtime).Set(1)
}
