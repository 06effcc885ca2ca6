package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// TestMain doubles as another user's command: see TestOtherUsersMayOnlyLook.
func TestMain(m *testing.M) {
	if socket := os.Getenv("LOCALAPI_TEST_SOCKET"); socket != "" {
		c := NewClient(socket)
		_, look := c.Tasks(context.Background(), TaskFilter{})
		_, act := c.StopTask(context.Background(), web1, "mine")
		_, restart := c.RestartService(context.Background(), "web")
		fmt.Printf("%q %q %q\n", CodeOf(look), CodeOf(act), CodeOf(restart))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const (
	web1 = "aaaaaaaaaaaa00000000000000000001"
	web2 = "aaaaaaaaaaaa00000000000000000002"
	db   = "bbbbbbbbbbbb00000000000000000003"
	old  = "cccccccccccc00000000000000000004"
)

// node is what an agent would be: the state behind the functions of a Config.
type node struct {
	mu      sync.Mutex
	views   []reconcile.View
	stopped map[string]string // id → reason
	logDir  string
}

func (n *node) all() []reconcile.View {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]reconcile.View(nil), n.views...)
}

func (n *node) stop(id, reason string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.views {
		if n.views[i].Status.TaskID == id {
			n.views[i].Status.LastStatus = spec.StatusStopped
			n.views[i].Status.StoppedReason = reason
			n.stopped[id] = reason
			return nil
		}
	}
	return fmt.Errorf("task %s: its service is gone: %w", id, errdefs.ErrFailedPrecondition)
}

func view(id, family, service string, age time.Duration) reconcile.View {
	created := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).Add(-age)
	return reconcile.View{
		Want: spec.Task{ID: id, Family: family, Service: service, Definition: spec.TaskDefinition{
			Family: family,
			ContainerDefinitions: []spec.ContainerDefinition{{
				Name: "app", Image: "app:1",
				Environment:      []spec.KeyValuePair{{Name: "PASSWORD", Value: "canary-env"}},
				LogConfiguration: &spec.LogConfiguration{LogDriver: "splunk", Options: map[string]string{"splunk-token": "canary-token", "tag": "web"}},
			}},
		}},
		Status: spec.TaskStatus{
			TaskID: id, Family: family, Service: service, LastStatus: spec.StatusRunning, DesiredStatus: spec.StatusRunning, CreatedAt: &created,
			Containers: []spec.ContainerStatus{{Name: "app", LastStatus: spec.StatusRunning}},
		},
	}
}

type harness struct {
	*Client
	node   *node
	events *Events
	log    *lockedBuffer
	socket string
	server *Server
	end    func() error
}

// start runs a server on a real socket and gives a client of it. Both end with the test.
func start(t *testing.T, change ...func(*Config)) *harness {
	t.Helper()
	dir, err := os.MkdirTemp("", "localapi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	n := &node{stopped: map[string]string{}, logDir: t.TempDir(), views: []reconcile.View{
		view(web2, "web", "web", time.Hour), view(web1, "web", "web", 2*time.Hour), view(db, "db", "db", time.Minute),
	}}
	ended := view(old, "job", "", 24*time.Hour).Status
	ended.LastStatus = spec.StatusStopped
	log := &lockedBuffer{}
	c := Config{
		Socket:  filepath.Join(dir, "run", "agent.sock"),
		Info:    func() Info { return Info{Version: "v0.1.0", Cluster: "default"} },
		Views:   n.all,
		History: func() []spec.TaskStatus { return []spec.TaskStatus{ended} },
		Services: func() []spec.ServiceStatus {
			return []spec.ServiceStatus{{ServiceName: "web", DesiredCount: 2}, {ServiceName: "db", DesiredCount: 1}}
		},
		Files: func() []ManifestFile {
			return []ManifestFile{{Path: "b.yaml", Status: FileInvalid, Reasons: []string{"b.yaml:1:1: family: must not be empty"}}, {Path: "a.yaml", Status: FileAccepted}}
		},
		Events: NewEvents(nil),
		LogFile: func(task, container string) (string, error) {
			return filepath.Join(n.logDir, task+"-"+container+".log"), nil
		},
		StopTask:       n.stop,
		RestartService: func(string) error { return nil },
		Log:            slog.New(slog.NewTextHandler(log, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := New(c)
	done := make(chan error, 1)
	l, err := listen(ctx, c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- s.serveOn(ctx, l) }()
	h := &harness{Client: NewClient(c.Socket), node: n, events: c.Events, log: log, socket: c.Socket, server: s}
	h.end = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		h.Close()
		if err := h.end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return h
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func ids(tasks []spec.TaskStatus) string {
	var out []string
	for _, t := range tasks {
		out = append(out, t.TaskID[:1]+t.TaskID[31:])
	}
	return strings.Join(out, " ")
}

func TestListTasks(t *testing.T) {
	h := start(t)
	for _, c := range []struct {
		filter TaskFilter
		want   string
	}{
		{TaskFilter{}, "b3 a1 a2"},
		{TaskFilter{Stopped: true}, "b3 c4 a1 a2"},
		{TaskFilter{Service: "web"}, "a1 a2"},
		{TaskFilter{Family: "job"}, ""},
		{TaskFilter{Family: "job", Stopped: true}, "c4"},
	} {
		got, err := h.Tasks(t.Context(), c.filter)
		if err != nil || ids(got) != c.want {
			t.Errorf("Tasks(%+v) = %s, %v, want %s", c.filter, ids(got), err, c.want)
		}
	}
}

func TestDescribeTask(t *testing.T) {
	h := start(t)
	h.node.views[2].Failures, h.node.views[2].Retry = 3, 8*time.Second
	h.node.views[2].Have.Health = map[string]reconcile.Health{"app": {Status: "UNHEALTHY", Code: 7, Output: "connection refused"}}
	h.node.views[2].Have.Pulls = map[string]reconcile.Pull{"app": {Started: runtime.Now(), Err: runtime.NewTaskError("CannotPullContainerError", nil, "denied")}}
	h.events.Add(spec.Event{Object: "task/" + db, Reason: "Pulling", Message: "pulling app:1"})
	h.events.Add(spec.Event{Object: "task/" + web1, Reason: "Started"})
	for _, given := range []string{db, "b", "BBBBBBBBBBBB", "arn:aws:ecs:local:000000000000:task/default/" + db} {
		d, err := h.Task(t.Context(), given)
		if err != nil {
			t.Errorf("Task(%s): %v", given, err)
			continue
		}
		if d.Task.TaskID != db || d.Failures != 3 || d.RetryAt == nil || d.HealthChecks["app"].ExitCode != 7 ||
			d.Pulls["app"].Error != "CannotPullContainerError: denied" || len(d.Events) != 1 || d.Events[0].Reason != "Pulling" {
			t.Errorf("Task(%s) = %+v", given, d)
		}
	}
	for given, want := range map[string]string{
		"aaaaaaaaaaaa": CodeAmbiguous, "d": CodeNotFound, "../../etc": CodeNotFound, "web": CodeNotFound, " ": CodeNotFound,
	} {
		if _, err := h.Task(t.Context(), given); CodeOf(err) != want {
			t.Errorf("Task(%q) = %v, want %s", given, err, want)
		}
	}
	d, err := h.Task(t.Context(), old)
	if err != nil || d.TaskDefinition != nil || d.Task.LastStatus != spec.StatusStopped {
		t.Errorf("Task of history = %+v, %v", d, err)
	}
}

func TestNothingSecretIsAnswered(t *testing.T) {
	h := start(t)
	for _, path := range []string{"/v1/tasks", "/v1/tasks/" + web1, "/v1/services", "/v1/manifests", "/v1/events", "/v1/info"} {
		var raw json.RawMessage
		err := h.get(t.Context(), path, nil, &raw)
		if err != nil && path != "/v1/events" {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte("canary")) {
			t.Errorf("GET %s tells a secret: %s", path, raw)
		}
	}
	d, err := h.Task(t.Context(), web1)
	if err != nil {
		t.Fatal(err)
	}
	c := d.TaskDefinition.ContainerDefinitions[0]
	if c.Environment[0] != (spec.KeyValuePair{Name: "PASSWORD", Value: Masked}) || c.LogConfiguration.Options["splunk-token"] != Masked || c.LogConfiguration.Options["tag"] != "web" {
		t.Errorf("masked definition: %+v %+v", c.Environment, c.LogConfiguration)
	}
	if have := h.node.views[0].Want.Definition.ContainerDefinitions[0]; have.Environment[0].Value != "canary-env" || have.LogConfiguration.Options["splunk-token"] != "canary-token" {
		t.Error("masking changed the definition itself")
	}
}

func TestListsAreOrdered(t *testing.T) {
	h := start(t)
	services, err := h.Services(t.Context())
	if err != nil || len(services) != 2 || services[0].ServiceName != "db" {
		t.Errorf("Services = %+v, %v", services, err)
	}
	files, err := h.Manifests(t.Context())
	if err != nil || len(files) != 2 || files[0].Path != "a.yaml" || len(files[1].Reasons) != 1 {
		t.Errorf("Manifests = %+v, %v", files, err)
	}
	info, err := h.Info(t.Context())
	if err != nil || info.Version != "v0.1.0" {
		t.Errorf("Info = %+v, %v", info, err)
	}
}

func TestStopAndRestart(t *testing.T) {
	h := start(t)
	got, err := h.StopTask(t.Context(), "b", "")
	if err != nil || got.TaskID != db || got.LastStatus != spec.StatusStopped || h.node.stopped[db] != "Task stopped by user" {
		t.Errorf("StopTask = %+v, %v; stopped %v", got, err, h.node.stopped)
	}
	if _, err := h.StopTask(t.Context(), web1, "too old"); err != nil || h.node.stopped[web1] != "too old" {
		t.Errorf("StopTask with a reason: %v, %v", err, h.node.stopped)
	}
	svc, err := h.RestartService(t.Context(), "web")
	if err != nil || svc.ServiceName != "web" {
		t.Errorf("RestartService = %+v, %v", svc, err)
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"reason with a newline": {second(h.StopTask(t.Context(), web2, "a\nb")), CodeInvalid},
		"reason too long":       {second(h.StopTask(t.Context(), web2, strings.Repeat("x", 1025))), CodeInvalid},
		"unknown task":          {second(h.StopTask(t.Context(), "ffff", "")), CodeNotFound},
		"refused by the agent":  {second(h.StopTask(t.Context(), old, "")), CodeConflict},
		"unknown service":       {second(h.RestartService(t.Context(), "nobody")), CodeNotFound},
		"no such operation":     {h.post(t.Context(), "/v1/tasks", struct{}{}, nil), CodeNotFound},
		"unknown member":        {h.post(t.Context(), "/v1/tasks/"+web2+"/stop", map[string]int{"Reason2": 1}, nil), CodeInvalid},
		"body too large":        {h.post(t.Context(), "/v1/tasks/"+web2+"/stop", map[string]string{"reason": strings.Repeat("x", maxBody)}, nil), CodeInvalid},
	} {
		if CodeOf(c.err) != c.want {
			t.Errorf("%s: %v (%s), want %s", name, c.err, CodeOf(c.err), c.want)
		}
	}
	if _, ok := h.node.stopped[web2]; ok {
		t.Error("a refused stop was carried out")
	}
}

func second[T any](_ T, err error) error { return err }

// TestAudit: what acts is written down with who did it, what only looks is not.
func TestAudit(t *testing.T) {
	h := start(t)
	_, _ = h.Tasks(t.Context(), TaskFilter{})
	_, _ = h.StopTask(t.Context(), db, "")
	_, _ = h.StopTask(t.Context(), "ffff", "")
	if err := h.end(); err != nil { // the record is written after the answer
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(h.log.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("audit log:\n%s", h.log)
	}
	for i, want := range []string{"outcome=done", "outcome=NotFound"} {
		for _, w := range []string{want, fmt.Sprintf("uid=%d", os.Getuid()), fmt.Sprintf("pid=%d", os.Getpid()), `operation="stop a task"`} {
			if !strings.Contains(lines[i], w) {
				t.Errorf("audit record %q lacks %s", lines[i], w)
			}
		}
	}
}

func TestAuthorize(t *testing.T) {
	for _, c := range []struct {
		name  string
		peer  Peer
		agent int
		acts  bool
		ok    bool
	}{
		{"root acts", Peer{UID: 0, Known: true}, 0, true, true},
		{"root acts on a user's agent", Peer{UID: 0, Known: true}, 1000, true, true},
		{"the agent's user acts", Peer{UID: 1000, Known: true}, 1000, true, true},
		{"another acts", Peer{UID: 1001, Known: true}, 0, true, false},
		{"another looks", Peer{UID: 1001, Known: true}, 0, false, true},
		{"nobody known acts", Peer{}, 0, true, false},
	} {
		if err := authorize(c.peer, c.agent, "stop a task", c.acts); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestOtherUsersMayOnlyLook connects as another user, from another process.
func TestOtherUsersMayOnlyLook(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	h := start(t)
	fi, err := os.Stat(h.socket)
	if err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket: %v, %v, want 0660", fi.Mode(), err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(filepath.Dir(filepath.Dir(h.socket)), "other")
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	as := func(mode os.FileMode) string {
		if err := os.Chmod(h.socket, mode); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = []string{"LOCALAPI_TEST_SOCKET=" + h.socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got, want := as(0o660), `"AccessDenied" "AccessDenied" "AccessDenied"`; got != want {
		t.Errorf("without access to the socket: %s, want %s", got, want)
	}
	if got, want := as(0o666), `"" "AccessDenied" "AccessDenied"`; got != want {
		t.Errorf("with access to the socket: %s, want %s", got, want)
	}
	if len(h.node.stopped) > 0 {
		t.Error("another user stopped a task")
	}
	if err := h.end(); err != nil {
		t.Fatal(err)
	}
	if log := h.log.String(); !strings.Contains(log, "uid=65534") || !strings.Contains(log, "outcome=AccessDenied") {
		t.Errorf("audit log lacks the refusal:\n%s", log)
	}
}

func TestRequestsWithoutCredentialsDoNotAct(t *testing.T) {
	s := New(Config{RestartService: func(string) error { return errors.New("acted") }, Services: func() []spec.ServiceStatus {
		return []spec.ServiceStatus{{ServiceName: "web"}}
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s.Handler(), ConnContext: withPeer}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	resp, err := http.Post("http://"+l.Addr().String()+"/v1/services/web/restart", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("over TCP: %s, want 403", resp.Status)
	}
}

func TestSocketLifecycle(t *testing.T) {
	h := start(t)
	if err := New(Config{Socket: h.socket}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent on the same socket: %v", err)
	}
	if err := h.end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(h.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	_, err := h.Info(t.Context())
	if CodeOf(err) != CodeUnavailable || !strings.Contains(err.Error(), h.socket) {
		t.Errorf("no agent: %v", err)
	}

	// A socket of a dead agent is replaced; another file is not.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.socket})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if _, err := h.Info(t.Context()); CodeOf(err) != CodeUnavailable {
		t.Errorf("dead agent: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(Config{Socket: h.socket}).Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("on the socket of a dead agent: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Socket: file}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("on a plain file: %v", err)
	}
}
