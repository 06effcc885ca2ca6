package reconcile

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"

	"ecsd/pkg/spec"
)

// controllerName is the label by which this loop is told from others.
const controllerName = "task"

// metrics are the figures of the reconciler. Names of the loop are those that
// controller-runtime and workqueue use, so that known dashboards work. What tasks are is
// collected from views at the scrape, see collector; what happened is counted here. No
// scrape ever waits for the runtime.
type metrics struct {
	passes    *prometheus.CounterVec
	errors    *prometheus.CounterVec
	time      *prometheus.HistogramVec
	active    *prometheus.GaugeVec
	workers   *prometheus.GaugeVec
	resync    prometheus.Gauge
	panics    *prometheus.CounterVec
	moves     *prometheus.CounterVec
	stops     *prometheus.CounterVec
	start     *prometheus.HistogramVec
	restarts  *prometheus.CounterVec
	oom       *prometheus.CounterVec
	queue     queueMetrics
	inUse     atomic.Int64
	reg       prometheus.Registerer
	collector *collector
}

var (
	passResults  = []string{"success", "error", "requeue", "requeue_after"}
	taskStatuses = []string{spec.StatusPending, spec.StatusRunning, spec.StatusStopping, spec.StatusStopped}
	healths      = []string{spec.HealthHealthy, spec.HealthUnhealthy, spec.HealthUnknown}
	phases       = []string{"pull", "total"}
)

// buckets from a millisecond to a minute: a pass, a call.
var quick = prometheus.ExponentialBucketsRange(0.001, 60, 14)

func newMetrics(reg prometheus.Registerer, views func() []View, workers int) *metrics {
	m := &metrics{
		passes:   counters("controller_runtime_reconcile_total", "Reconciles by controller and result.", "controller", "result"),
		errors:   counters("controller_runtime_reconcile_errors_total", "Reconciles that returned an error.", "controller"),
		time:     histograms("controller_runtime_reconcile_time_seconds", "Time per reconcile.", quick, "controller"),
		active:   gauges("controller_runtime_active_workers", "Workers in use per controller.", "controller"),
		workers:  gauges("controller_runtime_max_concurrent_reconciles", "Worker limit per controller.", "controller"),
		resync:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "ecsd_full_resync_last_success_timestamp_seconds", Help: "Unix time of the last complete resync against the runtime."}),
		panics:   counters("ecsd_panics_recovered_total", "Recovered panics.", "component"),
		moves:    counters("ecsd_task_transitions_total", "Task state transitions.", "family", "to"),
		stops:    counters("ecsd_task_stops_total", "Tasks stopped, by ECS stopCode.", "family", "stop_code"),
		start:    histograms("ecsd_task_start_duration_seconds", "Time from desired to RUNNING, by phase.", quick, "phase"),
		restarts: counters("ecsd_container_restarts_total", "Container restarts by policy.", "family", "container"),
		oom:      counters("ecsd_container_oom_kills_total", "Kernel OOM kills in the container.", "family", "container"),
		reg:      reg,
	}
	m.collector = newCollector(views)
	m.queue = newQueueMetrics()
	for _, result := range passResults {
		m.passes.WithLabelValues(controllerName, result)
	}
	m.errors.WithLabelValues(controllerName)
	m.time.WithLabelValues(controllerName)
	m.active.WithLabelValues(controllerName)
	m.workers.WithLabelValues(controllerName).Set(float64(workers))
	for _, phase := range phases {
		m.start.WithLabelValues(phase)
	}
	if reg != nil {
		m.panics = register(reg, m.panics)
		for _, c := range []prometheus.Collector{m.passes, m.errors, m.time, m.active, m.workers, m.resync, m.moves, m.stops, m.start, m.restarts, m.oom, m.collector} {
			reg.MustRegister(c)
		}
		m.queue.register(reg)
	}
	m.panics.WithLabelValues("reconcile")
	return m
}

// register registers a metric that other packages register too, and gives the one in use.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if used, same := already.ExistingCollector.(C); same {
			return used
		}
	}
	if err != nil {
		panic(err)
	}
	return c
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}, labels)
}

func (m *metrics) working(n int64) {
	m.active.WithLabelValues(controllerName).Set(float64(m.inUse.Add(n)))
}

func (m *metrics) passed(result string, d time.Duration) {
	m.passes.WithLabelValues(controllerName, result).Inc()
	m.time.WithLabelValues(controllerName).Observe(d.Seconds())
	if result == "error" {
		m.errors.WithLabelValues(controllerName).Inc()
	}
}

func (m *metrics) looked(at time.Time) { m.resync.Set(float64(at.UnixNano()) / 1e9) }

// queueMetrics are the figures of the workqueue. metrics is its MetricsProvider.
type queueMetrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	wait, work                 *prometheus.HistogramVec
}

func newQueueMetrics() queueMetrics {
	q := queueMetrics{
		depth:      gauges("workqueue_depth", "Current depth of the queue.", "name"),
		adds:       counters("workqueue_adds_total", "Items added to the queue.", "name"),
		wait:       histograms("workqueue_queue_duration_seconds", "Time items wait in the queue.", quick, "name"),
		work:       histograms("workqueue_work_duration_seconds", "Time to process an item.", quick, "name"),
		retries:    counters("workqueue_retries_total", "Retries handled by the queue.", "name"),
		unfinished: gauges("workqueue_unfinished_work_seconds", "Seconds of work in progress not yet observed.", "name"),
		longest:    gauges("workqueue_longest_running_processor_seconds", "Age of the oldest running worker.", "name"),
	}
	for _, g := range []*prometheus.GaugeVec{q.depth, q.unfinished, q.longest} {
		g.WithLabelValues(controllerName)
	}
	return q
}

func (q *queueMetrics) register(reg prometheus.Registerer) {
	q.depth, q.unfinished, q.longest = register(reg, q.depth), register(reg, q.unfinished), register(reg, q.longest)
	q.adds, q.retries = register(reg, q.adds), register(reg, q.retries)
	q.wait, q.work = register(reg, q.wait), register(reg, q.work)
}

var _ workqueue.MetricsProvider = (*metrics)(nil)

// NewDepthMetric, and the methods after it, make metrics a workqueue.MetricsProvider.
func (m *metrics) NewDepthMetric(name string) workqueue.GaugeMetric {
	return m.queue.depth.WithLabelValues(name)
}

func (m *metrics) NewAddsMetric(name string) workqueue.CounterMetric {
	return m.queue.adds.WithLabelValues(name)
}

func (m *metrics) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return m.queue.wait.WithLabelValues(name)
}

func (m *metrics) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return m.queue.work.WithLabelValues(name)
}

func (m *metrics) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.queue.unfinished.WithLabelValues(name)
}

func (m *metrics) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.queue.longest.WithLabelValues(name)
}

func (m *metrics) NewRetriesMetric(name string) workqueue.CounterMetric {
	return m.queue.retries.WithLabelValues(name)
}
