package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ecsd/pkg/localapi"
	"ecsd/pkg/reconcile"
	"ecsd/pkg/spec"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata and docs")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ecsd": main})
}

// TestOffline runs the commands that need no agent.
func TestOffline(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/offline", UpdateScripts: *update, Setup: noAgent, Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": exitsWith}})
}

func noAgent(e *testscript.Env) error {
	e.Setenv("ECSD_SOCKET", filepath.Join(e.WorkDir, "no.sock"))
	e.Setenv("TZ", "UTC")
	return nil
}

// TestOnline runs commands against the agent's end of the socket, with a node behind it
// that the script command "node" moves on.
func TestOnline(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/online",
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			if err := noAgent(e); err != nil {
				return err
			}
			n := newNode(e.WorkDir)
			// Unix socket paths are short, and those of script directories may be long.
			dir, err := os.MkdirTemp("", "ecsd")
			if err != nil {
				return err
			}
			e.Setenv("ECSD_SOCKET", filepath.Join(dir, "s"))
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			up := make(chan struct{})
			go func() { done <- localapi.New(n.config(filepath.Join(dir, "s"))).Run(ctx) }()
			go func() {
				c := localapi.NewClient(filepath.Join(dir, "s"))
				defer c.Close()
				for ctx.Err() == nil {
					if _, err := c.Info(ctx); err == nil {
						close(up)
						return
					}
				}
			}()
			<-up
			e.Defer(func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				_ = os.RemoveAll(dir)
			})
			e.Values[nodeKey{}] = n
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": exitsWith, "node": moveNode},
	})
}

type nodeKey struct{}

// exitsWith runs a command and checks its exit code: "code 4 ecsd describe x".
func exitsWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		var ok bool
		if got, ok = codeOf(err); !ok {
			ts.Fatalf("%v: %v", args[1:], err)
		}
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("%v: exit code %d, want %s", args[1:], got, args[0])
	}
}

func codeOf(err error) (int, bool) {
	var e interface{ ExitCode() int }
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.ExitCode(), true
}

// simNode is a node as an agent would show it. Its service web is rolled by a restart: the
// old task stops, a new one runs, and the deployment is complete.
type simNode struct {
	dir    string
	events *localapi.Events

	mu       sync.Mutex
	views    []reconcile.View
	services []spec.ServiceStatus
	notReady string
	stuck    bool // stops and restarts take no effect
}

const (
	webTask = "aaaa0000000000000000000000000001"
	jobTask = "bbbb0000000000000000000000000003"
	oldTask = "cccc0000000000000000000000000004"
)

func simTask(id, family, service string, age time.Duration) reconcile.View {
	at := time.Now().Add(-age)
	started := at.Add(time.Second)
	return reconcile.View{
		Want: spec.Task{ID: id, Family: family, Definition: spec.TaskDefinition{
			Family: family,
			ContainerDefinitions: []spec.ContainerDefinition{
				{Name: "app", Image: "web:1", Environment: []spec.KeyValuePair{{Name: "PASSWORD", Value: "canary"}}},
				{Name: "side", Image: "side:1", DependsOn: []spec.ContainerDependency{{ContainerName: "app", Condition: "HEALTHY"}}},
			},
		}},
		Have: reconcile.Observed{Health: map[string]reconcile.Health{}},
		Status: spec.TaskStatus{
			TaskID: id, TaskARN: spec.Task{ID: id}.ARN(), Family: family, Revision: 3, Service: service, Slot: 1,
			LastStatus: spec.StatusRunning, DesiredStatus: spec.StatusRunning, HealthStatus: spec.HealthHealthy, CreatedAt: &at, StartedAt: &started,
			Containers: []spec.ContainerStatus{
				{Name: "app", Image: "web:1", LastStatus: spec.StatusRunning, Essential: true, PID: 4242, HealthStatus: spec.HealthHealthy, StartedAt: &started,
					NetworkBindings: []spec.NetworkBinding{
						{BindIP: "0.0.0.0", ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}, {BindIP: "::", ContainerPort: 80, HostPort: 8080, Protocol: "tcp"},
					},
					NetworkInterfaces: []spec.NetworkInterface{{PrivateIPv4Address: "172.30.0.2"}}},
				{Name: "side", Image: "side:1", LastStatus: spec.StatusRunning, RestartCount: 2, StartedAt: &started},
			},
		},
	}
}

func newNode(dir string) *simNode {
	n := &simNode{dir: dir, events: localapi.NewEvents(func() time.Time { return time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC) })}
	n.views = []reconcile.View{simTask(webTask, "web", "web", 3*time.Hour), simTask(jobTask, "job", "", 20*time.Minute)}
	n.services = []spec.ServiceStatus{{
		ServiceName: "web", Status: spec.ServiceActive, DesiredCount: 1, RunningCount: 1, TaskDefinition: "arn:aws:ecs:local:000000000000:task-definition/web:3",
		SchedulingStrategy: spec.StrategyReplica, File: "web.yaml", CreatedAt: time.Now().Add(-50 * time.Hour),
		Deployments: []spec.DeploymentStatus{{ID: "ecs-svc/1", Status: spec.DeploymentPrimary, TaskDefinition: "x/web:3", DesiredCount: 1, RunningCount: 1,
			RolloutState: spec.RolloutCompleted, RolloutStateReason: "deployment completed", CreatedAt: time.Now().Add(-3 * time.Hour)}},
		Events: []spec.ServiceEvent{{ID: "1", CreatedAt: time.Now().Add(-3 * time.Hour), Message: "(service web) has reached a steady state."}},
	}}
	n.events.Add(spec.Event{Type: spec.EventNormal, Object: "task/" + webTask, Reason: "Started", Message: "container app started"})
	n.events.Add(spec.Event{Type: spec.EventWarning, Object: "service/web", Reason: "Unhealthy", Message: "evil \x1b]0;title\x07\nname"})
	n.events.Add(spec.Event{Type: spec.EventWarning, Object: "service/web", Reason: "Unhealthy", Message: "evil \x1b]0;title\x07\nname"})
	return n
}

func (n *simNode) config(socket string) localapi.Config {
	code := 42
	ended := simTask(oldTask, "web", "web", 48*time.Hour).Status
	ended.LastStatus, ended.DesiredStatus, ended.HealthStatus = spec.StatusStopped, spec.StatusStopped, spec.HealthUnknown
	ended.StopCode, ended.StoppedReason = spec.StopEssentialContainerExited, "Essential container in task exited"
	ended.Containers[0].ExitCode, ended.Containers[0].LastStatus = &code, spec.StatusStopped
	ended.Containers[1].LastStatus = spec.StatusStopped
	for i := range ended.Containers {
		ended.Containers[i].NetworkBindings, ended.Containers[i].PID = nil, 0
	}
	return localapi.Config{
		Socket: socket,
		Info: func() localapi.Info {
			n.mu.Lock()
			defer n.mu.Unlock()
			return localapi.Info{Version: "v9", NotReady: n.notReady}
		},
		Views: func() []reconcile.View {
			n.mu.Lock()
			defer n.mu.Unlock()
			return append([]reconcile.View(nil), n.views...)
		},
		History: func() []spec.TaskStatus { return []spec.TaskStatus{ended} },
		Services: func() []spec.ServiceStatus {
			n.mu.Lock()
			defer n.mu.Unlock()
			out := append([]spec.ServiceStatus(nil), n.services...)
			for i := range out {
				out[i].Deployments = append([]spec.DeploymentStatus(nil), out[i].Deployments...)
			}
			return out
		},
		Files: func() []localapi.ManifestFile {
			files := []localapi.ManifestFile{
				{Path: "web.yaml", Status: localapi.FileAccepted, Documents: []string{"TaskDefinition web", "Service web"}},
				{Path: "notes.txt", Status: localapi.FileIgnored, Reasons: []string{"not a manifest by its name"}},
			}
			if _, err := os.Stat(filepath.Join(n.dir, "broken")); err == nil {
				files = append(files, localapi.ManifestFile{Path: "bad.yaml", Status: localapi.FileInvalid, KeptGood: true,
					Reasons: []string{"bad.yaml:4:11: containerDefinitions[0].memory: must be a whole number", "bad.yaml:5:1: famly: unknown"}})
			}
			return files
		},
		Events: n.events,
		LogFile: func(task, container string) (string, error) {
			return filepath.Join(n.dir, task+"-"+container+".log"), nil
		},
		StopTask:       n.stop,
		RestartService: n.restart,
	}
}

func (n *simNode) stop(id, why string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stuck {
		return nil
	}
	for i := range n.views {
		if n.views[i].Status.TaskID == id {
			s := &n.views[i].Status
			s.LastStatus, s.DesiredStatus, s.StoppedReason = spec.StatusStopped, spec.StatusStopped, why
			n.events.Add(spec.Event{Object: "task/" + id, Reason: "Stopped", Message: why})
		}
	}
	return nil
}

func (n *simNode) restart(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stuck {
		return nil
	}
	d := &n.services[0].Deployments[0]
	d.ID, d.RolloutState = "ecs-svc/2", spec.RolloutInProgress
	n.events.Add(spec.Event{Object: "service/" + name, Reason: "Deployment", Message: "begun"})
	go func() { // the roll goes on while the command waits
		n.mu.Lock()
		defer n.mu.Unlock()
		n.services[0].Deployments[0].RolloutState = spec.RolloutCompleted
		n.events.Add(spec.Event{Object: "service/" + name, Reason: "Deployment", Message: "completed"})
	}()
	return nil
}

// moveNode changes the node behind the socket: "node stuck", "node fail", "node replace", ….
func moveNode(ts *testscript.TestScript, neg bool, args []string) {
	n, ok := ts.Value(nodeKey{}).(*simNode)
	if !ok || neg || len(args) != 1 {
		ts.Fatalf("usage: node CHANGE")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch args[0] {
	case "stuck":
		n.stuck = true
	case "starting":
		n.notReady = "the manifests have not been read yet"
	case "rolling":
		n.services[0].Deployments[0].RolloutState = spec.RolloutInProgress
		n.services[0].Waiting = "task aaaa is not healthy yet"
	case "fail":
		n.services[0].Deployments[0].RolloutState = spec.RolloutFailed
		n.services[0].Deployments[0].RolloutStateReason = "3 tasks failed in a row"
	case "none":
		n.views, n.services = nil, nil
	default:
		ts.Fatalf("unknown change %q", args[0])
	}
	n.events.Add(spec.Event{Object: "agent", Reason: "Test", Message: args[0]})
}
