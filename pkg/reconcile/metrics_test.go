package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ecsd/pkg/runtime/fake"
	"ecsd/pkg/spec"
)

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	inBubble(t, func(c *Config, _ *fake.Runtime) {
		c.Registerer = reg
		c.Health = func(string, string) Health { return Health{Status: spec.HealthHealthy} }
	}, func(g *rig) {
		run, end := newTask(ctr("app", "pause", checked)), newTask(ctr("app", "exit 3"))
		end.Family = "job"
		g.source.want(run, end)
		g.settle(time.Second)
		g.expect(run.ID, spec.StatusRunning)
		g.expect(end.ID, spec.StatusStopped)
		want := `
# HELP ecsd_tasks Tasks per family and last status.
# TYPE ecsd_tasks gauge
ecsd_tasks{family="fam",status="PENDING"} 0
ecsd_tasks{family="fam",status="RUNNING"} 1
ecsd_tasks{family="fam",status="STOPPED"} 0
ecsd_tasks{family="fam",status="STOPPING"} 0
ecsd_tasks{family="job",status="PENDING"} 0
ecsd_tasks{family="job",status="RUNNING"} 0
ecsd_tasks{family="job",status="STOPPED"} 1
ecsd_tasks{family="job",status="STOPPING"} 0
# HELP ecsd_tasks_desired Tasks wanted on this host per family.
# TYPE ecsd_tasks_desired gauge
ecsd_tasks_desired{family="fam"} 1
ecsd_tasks_desired{family="job"} 0
# HELP ecsd_tasks_drifted Tasks whose observed state differs from the desired state.
# TYPE ecsd_tasks_drifted gauge
ecsd_tasks_drifted 0
# HELP ecsd_container_last_exit_code Exit code of the last finished run.
# TYPE ecsd_container_last_exit_code gauge
ecsd_container_last_exit_code{container="app",family="job"} 3
# HELP ecsd_container_health_status 1 for the current health status, 0 for the others.
# TYPE ecsd_container_health_status gauge
ecsd_container_health_status{container="app",family="fam",status="HEALTHY"} 1
ecsd_container_health_status{container="app",family="fam",status="UNHEALTHY"} 0
ecsd_container_health_status{container="app",family="fam",status="UNKNOWN"} 0
# HELP ecsd_task_stops_total Tasks stopped, by ECS stopCode.
# TYPE ecsd_task_stops_total counter
ecsd_task_stops_total{family="job",stop_code="EssentialContainerExited"} 1
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "ecsd_tasks", "ecsd_tasks_desired", "ecsd_tasks_drifted",
			"ecsd_container_last_exit_code", "ecsd_container_health_status", "ecsd_task_stops_total"); err != nil {
			t.Error(err)
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) != 0 {
			t.Errorf("lint: %+v, %v", problems, err)
		}
		if n, err := testutil.GatherAndCount(reg, "ecsd_task_info"); n != 1 || err != nil {
			t.Errorf("%d series carry an id (%v), want that of the running task", n, err)
		}
	})
}

// A host with very many families does not export very many series.
func TestMetricsAreBounded(t *testing.T) {
	var views []View
	for i := range 1000 {
		views = append(views, View{Status: spec.TaskStatus{Family: testID(i), LastStatus: spec.StatusStopped}})
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(func() []View { return views }))
	if n, err := testutil.GatherAndCount(reg, "ecsd_tasks"); n != 4*(maxFamilies+1) || err != nil {
		t.Errorf("%d series (%v), want %d", n, err, 4*(maxFamilies+1))
	}
}
