package introspect

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

const (
	web1 = "aaaaaaaaaaaa00000000000000000001"
	web2 = "aaaaaaaaaaaa00000000000000000002"
	db   = "bbbbbbbbbbbb00000000000000000003"
	old  = "cccccccccccc00000000000000000004"
)

func view(id, family string) reconcile.View {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	td := spec.TaskDefinition{
		Family: family, NetworkMode: "bridge",
		ContainerDefinitions: []spec.ContainerDefinition{{
			Name: "app", Image: "registry.example/app:1",
			Command:     []string{"--token", "canary-command"},
			Environment: []spec.KeyValuePair{{Name: "PASSWORD", Value: "canary-env"}},
			Secrets:     []spec.Secret{{Name: "KEY", ValueFrom: "canary-secret-ref"}},
			MountPoints: []spec.MountPoint{{SourceVolume: "data", ContainerPath: "/data"}, {SourceVolume: "scratch", ContainerPath: "/scratch"}},
		}},
		Volumes: []spec.Volume{{Name: "data", Host: &spec.HostVolumeProperties{SourcePath: "/srv/data"}}, {Name: "scratch"}},
	}
	t := spec.Task{ID: id, Family: family, Revision: 3, Definition: td}
	return reconcile.View{
		Want: t,
		Have: reconcile.Observed{Task: runtime.Task{Sandbox: &runtime.Sandbox{
			NetworkMode: "bridge",
			Networks:    map[string]runtime.Network{"app": {IPv4: netip.MustParseAddr("172.30.0.2")}},
		}}},
		Status: spec.TaskStatus{
			TaskID: id, TaskARN: t.ARN(), Family: family, Revision: 3,
			LastStatus: spec.StatusRunning, DesiredStatus: spec.StatusRunning,
			Containers: []spec.ContainerStatus{{
				Name: "app", Image: "registry.example/app:1", ImageDigest: "sha256:0123", RuntimeID: id + "-0",
				LastStatus: spec.StatusRunning, CreatedAt: &at, StartedAt: &at, RestartCount: 2,
				NetworkBindings: []spec.NetworkBinding{{BindIP: "0.0.0.0", ContainerPort: 80, HostPort: 32768, Protocol: "tcp"}},
			}},
		},
	}
}

func testConfig() Config {
	stopped := view(old, "job").Status
	stopped.LastStatus = spec.StatusStopped
	return Config{
		Cluster: "lab", Version: "v0.1.0", Revision: "abc123",
		Views:    func() []reconcile.View { return []reconcile.View{view(web2, "web"), view(web1, "web"), view(db, "db")} },
		Stopped:  func() []spec.TaskStatus { return []spec.TaskStatus{stopped, view(web1, "web").Status} },
		Gatherer: prometheus.NewRegistry(),
	}
}

func do(t *testing.T, h http.Handler, method, target string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost:51678"+target, nil)
	r.Host = "localhost:51678"
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

func TestAnswers(t *testing.T) {
	h := Handler(testConfig())
	for _, c := range []struct {
		target string
		code   int
		want   string // contained in the body
	}{
		{"/", 200, `{"AvailableCommands":["/v1/metadata","/v1/tasks","/license"]}`},
		{"/v1/metadata", 200, `{"Cluster":"lab","ContainerInstanceArn":null,"Version":"ecsd - v0.1.0 (abc123)"}`},
		{"/license", 200, "Apache License"},
		{"/healthz", 200, "ok"},
		{"/readyz", 200, "ok"},
		{"/v1/tasks?taskarn=" + view(db, "db").Want.ARN(), 200, `"Family":"db","Version":"3"`},
		{"/v1/tasks?dockerid=" + web2 + "-0", 200, web2},
		{"/v1/tasks?dockerid=" + db[:12], 200, db},
		{"/v1/tasks?dockerid=" + db[:11], 404, "no such task"},
		{"/v1/tasks?dockerid=" + web1[:12], 400, "several tasks"},
		{"/v1/tasks?dockerid=" + old + "-0", 200, `"KnownStatus":"STOPPED"`},
		{"/v1/tasks?taskarn=nobody", 404, "no such task"},
		{"/v1/tasks?taskarn=", 400, "may not be empty"},
		{"/v1/tasks?taskarn=a&dockerid=b", 400, "both"},
		{"/v1/tasks?dockerid=../../etc/passwd", 404, "no such task"},
		{"/v1/tasks?dockerid=.*", 404, "no such task"},
		{"/v1/tasks?dockerid=" + strings.Repeat("a", 10<<10), 404, "no such task"},
		{"/v1/tasks?a=1;b=2", 400, "query string"},
		{"/v1/tasks/", 404, "not found"},
		{"/v1/../v1/tasks", 404, "not found"},
		{"/debug/pprof/", 404, "not found"},
	} {
		code, body := do(t, h, "GET", c.target)
		if code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("GET %s = %d %.300q, want %d with %q", c.target, code, body, c.code, c.want)
		}
	}
}

// TestTaskShape holds one task against the Amazon agent's shape, member by member.
func TestTaskShape(t *testing.T) {
	c := testConfig()
	c.Views = func() []reconcile.View { return []reconcile.View{view(db, "db")} }
	c.Stopped = nil
	_, body := do(t, Handler(c), "GET", "/v1/tasks")
	want := `{"Tasks":[{"Arn":"arn:aws:ecs:local:000000000000:task/default/` + db + `","DesiredStatus":"RUNNING","KnownStatus":"RUNNING","Family":"db","Version":"3",` +
		`"Containers":[{"DockerId":"` + db + `-0","DockerName":"ecs-db-3-app-` + db[:20] + `","Name":"app","Image":"registry.example/app:1","ImageID":"sha256:0123",` +
		`"CreatedAt":"2026-11-22T10:00:00Z","StartedAt":"2026-11-22T10:00:00Z","Ports":[{"ContainerPort":80,"Protocol":"tcp","HostPort":32768,"HostIp":"0.0.0.0"}],` +
		`"Networks":[{"NetworkMode":"bridge","IPv4Addresses":["172.30.0.2"]}],` +
		`"Volumes":[{"Source":"/srv/data","Destination":"/data"},{"DockerName":"scratch","Destination":"/scratch"}],"RestartCount":2}]}]}`
	if body != want {
		t.Errorf("GET /v1/tasks\n got %s\nwant %s", body, want)
	}
}

func TestTasksAreOrderedAndNotRepeated(t *testing.T) {
	_, body := do(t, Handler(testConfig()), "GET", "/v1/tasks")
	var got struct{ Tasks []struct{ Arn string } }
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, x := range got.Tasks {
		ids = append(ids, x.Arn[strings.LastIndex(x.Arn, "/")+1:])
	}
	if want := []string{web1, web2, db, old}; !slices.Equal(ids, want) {
		t.Errorf("tasks = %v, want %v", ids, want)
	}
}

func TestNoTasksIsAnEmptyList(t *testing.T) {
	if _, body := do(t, Handler(Config{}), "GET", "/v1/tasks"); body != `{"Tasks":[]}` {
		t.Errorf("got %s", body)
	}
}

func TestStatuses(t *testing.T) {
	for _, c := range []struct{ last, desired, known, want string }{
		{"PENDING", "RUNNING", "PENDING", "RUNNING"},
		{"RUNNING", "RUNNING", "RUNNING", "RUNNING"},
		{"RUNNING", "STOPPED", "RUNNING", "STOPPED"},
		{"STOPPING", "STOPPED", "RUNNING", "STOPPED"},
		{"STOPPED", "STOPPED", "STOPPED", "STOPPED"},
		{"STOPPED", "RUNNING", "STOPPED", ""},
	} {
		known, desired := statuses(spec.TaskStatus{LastStatus: c.last, DesiredStatus: c.desired})
		if known != c.known || desired != c.want {
			t.Errorf("statuses(%s, %s) = %s, %q, want %s, %q", c.last, c.desired, known, desired, c.known, c.want)
		}
	}
}

// TestReadsOnly tries every method on every path, and on some that are none: only GET and
// HEAD are ever answered with success.
func TestReadsOnly(t *testing.T) {
	c := testConfig()
	h := Handler(c)
	paths := append(slices.Collect(maps.Keys(c.routes())), "/metrics", "/v1/tasks/x/stop", "/v1/services/x/restart", "/-/reload", "/debug/pprof/profile")
	for _, m := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "OPTIONS", "PROPFIND", "get"} {
		for _, p := range paths {
			if code, body := do(t, h, m, p); code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s = %d %q, want 405", m, p, code, body)
			}
		}
	}
	for _, p := range paths {
		code, _ := do(t, h, "HEAD", p)
		_, known := c.routes()[p]
		if want := known || p == "/metrics"; (code == 200) != want {
			t.Errorf("HEAD %s = %d, want success %v", p, code, want)
		}
	}
}

func TestHostHeader(t *testing.T) {
	c := testConfig()
	c.Hosts = []string{"node7.example"}
	h := Handler(c)
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:51678": 200, "localhost.:51678": 200, "127.0.0.1:51678": 200, "[::1]:51678": 200, "node7.example:1": 200,
		"evil.example": 421, "127.0.0.1.evil.example:51678": 421, "localhost.evil.example": 421, "": 421, "10.1.2.3:51678": 421, "[::1": 200,
	} {
		code, body := do(t, h, "GET", "/v1/metadata", func(r *http.Request) { r.Host = host })
		if code != want {
			t.Errorf("Host %q = %d %q, want %d", host, code, body, want)
		}
	}
}

func TestNoCORSAndNothingSecret(t *testing.T) {
	h := Handler(testConfig())
	for path := range testConfig().routes() {
		r := httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil)
		r.Header.Set("Origin", "http://evil.example")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("GET %s answers with %s", path, name)
			}
		}
		if strings.Contains(w.Body.String(), "canary") {
			t.Errorf("GET %s tells an environment value, a command or a secret: %s", path, w.Body)
		}
	}
}

func TestProbes(t *testing.T) {
	c := Config{Healthy: func() error { return errors.New("loop stuck for 70s") }, Ready: func() error { return errors.New("containerd does not answer") }}
	for path, want := range map[string]string{"/healthz": "loop stuck for 70s\n", "/readyz": "containerd does not answer\n"} {
		if code, body := do(t, Handler(c), "GET", path); code != 503 || body != want {
			t.Errorf("GET %s = %d %q, want 503 %q", path, code, body, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := testConfig()
	c.Gatherer, c.Metrics = reg, NewMetrics(reg)
	h := Handler(c)
	do(t, h, "GET", "/v1/tasks")
	do(t, h, "GET", "/v1/tasks?taskarn=nobody")
	do(t, h, "GET", "/some/path/of/a/scanner")
	do(t, h, "BREW", "/v1/tasks")
	code, body := do(t, h, "GET", "/metrics")
	if code != 200 || !strings.Contains(body, `ecsd_http_requests_total{code="404",handler="/v1/tasks",method="GET"} 1`) {
		t.Errorf("GET /metrics = %d:\n%s", code, body)
	}
	for labels, want := range map[[3]string]float64{
		{"/v1/tasks", "GET", "200"}: 1, {"/v1/tasks", "GET", "404"}: 1, {"other", "GET", "404"}: 1, {"other", "other", "405"}: 1,
	} {
		if got := testutil.ToFloat64(c.Metrics.requests.WithLabelValues(labels[:]...)); got != want {
			t.Errorf("requests%v = %v, want %v", labels, got, want)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
}
