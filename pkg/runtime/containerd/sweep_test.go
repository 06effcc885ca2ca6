package containerd

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestSweep: what a crash left of an unknown task goes, what belongs to a known one stays.
func TestSweep(t *testing.T) {
	m := newMachine(t)
	registry := prometheus.NewRegistry()
	m.config.Registerer = registry
	r, end := m.agent()
	known := task("none", box("a", "pause"))
	m.start(r, known)
	unknown := strings.Repeat("0f", 16)
	m.ok("leave a group", r.cgroups.Create(t.Context(), unknown, nil))
	end()
	registry = prometheus.NewRegistry()
	m.config.Registerer = registry
	r, _ = m.agent()
	m.eventually("the group is swept", func() bool { return !r.cgroups.Exists(unknown) })
	if !r.cgroups.Exists(known.ID) || !m.look(r, known).Containers["a"].Live() {
		t.Error("the sweep took something of a task that is known")
	}
	m.eventually("the sweep is counted", func() bool {
		return testutil.ToFloat64(r.m.orphans.WithLabelValues("cgroup")) == 1
	})
	problems, err := testutil.GatherAndLint(registry)
	m.ok("gather", err)
	for _, p := range problems {
		t.Errorf("metric %s: %s", p.Metric, p.Text)
	}
	m.remove(r, known)
}
