package reconcile

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"ecsd/pkg/spec"
)

// Bounds of what one host exports: more families or containers of a family are folded.
const (
	maxFamilies = 200
	otherFamily = "_other"
)

// collector gives the figures that describe tasks as they are, from the views at the
// moment of a scrape: nothing has to be deleted when a task goes.
type collector struct {
	views func() []View

	desired, tasks, drifted, containers, backoff *prometheus.Desc
	exitCode, exitTime, health, info             *prometheus.Desc
}

func newCollector(views func() []View) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &collector{
		views:      views,
		desired:    desc("ecsd_tasks_desired", "Tasks wanted on this host per family.", "family"),
		tasks:      desc("ecsd_tasks", "Tasks per family and last status.", "family", "status"),
		drifted:    desc("ecsd_tasks_drifted", "Tasks whose observed state differs from the desired state."),
		containers: desc("ecsd_containers", "Containers by state.", "status"),
		backoff:    desc("ecsd_container_backoff_seconds", "Current back-off delay of the container's task.", "family", "container"),
		exitCode:   desc("ecsd_container_last_exit_code", "Exit code of the last finished run.", "family", "container"),
		exitTime:   desc("ecsd_container_last_terminated_timestamp_seconds", "Unix time of the last exit.", "family", "container"),
		health:     desc("ecsd_container_health_status", "1 for the current health status, 0 for the others.", "family", "container", "status"),
		info:       desc("ecsd_task_info", "Constant 1, joins slot to task id; the only series with an id.", "ecs_family", "revision", "task_slot", "task_id", "service"),
	}
}

// Describe sends nothing: which series there are depends on the tasks there are.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.desired, c.tasks, c.drifted, c.containers, c.backoff, c.exitCode, c.exitTime, c.health, c.info} {
		ch <- d
	}
}

// box is a container of a family, over all its tasks.
type box struct{ family, container string }

// exit is the latest end of a run of a box.
type exit struct{ code, at float64 }

// Collect sends the figures.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	desired, drifted := map[string]int{}, 0
	tasks, boxes := map[string]map[string]int{}, map[string]int{}
	exits, waits, verdicts := map[box]exit{}, map[box]float64{}, map[box]string{}
	fold := folder()
	for _, v := range c.views() {
		s := v.Status
		family := fold(s.Family)
		if tasks[family] == nil {
			tasks[family] = map[string]int{}
		}
		tasks[family][s.LastStatus]++
		if v.Want.DesiredStatus == spec.StatusRunning {
			desired[family]++
		} else {
			desired[family] += 0
		}
		if s.LastStatus != v.Want.DesiredStatus {
			drifted++
		}
		if s.LastStatus != spec.StatusStopped {
			gauge(c.info, 1, s.Family, strconv.Itoa(s.Revision), strconv.Itoa(s.Slot), s.TaskID, s.Service)
		}
		for _, cs := range s.Containers {
			boxes[cs.LastStatus]++
			b := box{family, cs.Name}
			if cs.FinishedAt != nil && cs.ExitCode != nil {
				if at := float64(cs.FinishedAt.UnixNano()) / 1e9; at > exits[b].at {
					exits[b] = exit{float64(*cs.ExitCode), at}
				}
			}
			if s.LastStatus != spec.StatusStopped {
				waits[b] = max(waits[b], v.Retry.Seconds())
				if cs.HealthStatus != "" {
					verdicts[b] = worse(verdicts[b], cs.HealthStatus)
				}
			}
		}
	}
	for family, count := range tasks {
		gauge(c.desired, float64(desired[family]), family)
		for _, status := range taskStatuses {
			gauge(c.tasks, float64(count[status]), family, status)
		}
	}
	gauge(c.drifted, float64(drifted))
	for _, status := range taskStatuses {
		gauge(c.containers, float64(boxes[status]), status)
	}
	for b, e := range exits {
		gauge(c.exitCode, e.code, b.family, b.container)
		gauge(c.exitTime, e.at, b.family, b.container)
	}
	for b, d := range waits {
		gauge(c.backoff, d, b.family, b.container)
	}
	for b, verdict := range verdicts {
		for _, h := range healths {
			value := 0.0
			if h == verdict {
				value = 1
			}
			gauge(c.health, value, b.family, b.container, h)
		}
	}
}

// worse is the worse of two verdicts.
func worse(a, b string) string {
	rank := map[string]int{"": 0, spec.HealthHealthy: 1, spec.HealthUnknown: 2, spec.HealthUnhealthy: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// folder bounds the number of families: what comes after the first two hundred is one.
func folder() func(string) string {
	seen := map[string]bool{}
	return func(family string) string {
		if seen[family] {
			return family
		}
		if len(seen) >= maxFamilies {
			return otherFamily
		}
		seen[family] = true
		return family
	}
}
