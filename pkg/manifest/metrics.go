package manifest

import "github.com/prometheus/client_golang/prometheus"

// Causes of a rejection: the values of the label reason.
const (
	causeUnreadable = "unreadable" // not a regular file, too large, no permission, a link to nowhere
	causeSyntax     = "syntax"     // not what the format allows
	causeInvalid    = "invalid"    // understood, and against a rule of ECS
	causeDuplicate  = "duplicate"  // another file defines the same
	causeReference  = "reference"  // a service whose definition is missing or does not fit
)

var causes = []string{causeUnreadable, causeSyntax, causeInvalid, causeDuplicate, causeReference}

// statuses are the values of the label status. A duplicate counts as invalid.
const (
	filesLoaded  = "loaded"
	filesInvalid = "invalid"
	filesIgnored = "ignored"
)

type metrics struct {
	files      *prometheus.GaugeVec
	scan       prometheus.Histogram
	lastScan   prometheus.Gauge
	lastChange prometheus.Gauge
	rejections *prometheus.CounterVec
	revision   *prometheus.GaugeVec
	overflows  prometheus.Counter
	blocked    prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		files: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ecsd_manifest_files", Help: "Manifest files seen, by status loaded, invalid, ignored.",
		}, []string{"status"}),
		scan: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ecsd_manifest_scan_duration_seconds", Help: "Time to read and validate the whole manifest directory.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		lastScan: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecsd_manifest_last_scan_timestamp_seconds", Help: "Unix time of the last completed scan.",
		}),
		lastChange: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecsd_manifest_last_change_timestamp_seconds", Help: "Unix time the accepted desired state last changed.",
		}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecsd_manifest_rejections_total", Help: "Manifests refused, by bounded reason.",
		}, []string{"reason"}),
		revision: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ecsd_manifest_revision_info", Help: "Constant 1 with the accepted source revision (git commit or content hash).",
		}, []string{"revision"}),
		overflows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ecsd_manifest_watch_overflows_total", Help: "inotify queue overflows that forced a full rescan.",
		}),
		blocked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecsd_prune_blocked", Help: "1 when removals are held back by the mass-deletion guard.",
		}),
	}
	// Every value is there from the start, so that alerts work before anything happens.
	for _, s := range []string{filesLoaded, filesInvalid, filesIgnored} {
		m.files.WithLabelValues(s)
	}
	for _, c := range causes {
		m.rejections.WithLabelValues(c)
	}
	if r != nil {
		r.MustRegister(m.files, m.scan, m.lastScan, m.lastChange, m.rejections, m.revision, m.overflows, m.blocked)
	}
	return m
}

// count sets the gauges that follow from the files.
func (m *metrics) count(files []File, blocked bool) {
	n := map[string]int{}
	for _, f := range files {
		switch f.Status {
		case StatusAccepted:
			n[filesLoaded]++
		case StatusIgnored:
			n[filesIgnored]++
		default:
			n[filesInvalid]++
		}
	}
	for _, s := range []string{filesLoaded, filesInvalid, filesIgnored} {
		m.files.WithLabelValues(s).Set(float64(n[s]))
	}
	m.blocked.Set(0)
	if blocked {
		m.blocked.Set(1)
	}
}
