package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ecsd/pkg/localapi"
	"ecsd/pkg/logs"
	"ecsd/pkg/spec"
)

// followed is what a follower has printed so far, with a way to wait for more.
type followed struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{}
}

func (f *followed) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.b.Write(p)
	select {
	case f.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (f *followed) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.b.String()
}

// until waits until the text has been printed.
func (f *followed) until(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !strings.Contains(f.String(), text) {
		select {
		case <-f.more:
		case <-deadline:
			t.Fatalf("nothing printed %q; printed:\n%s", text, f)
		}
	}
}

// runNode serves a node on the socket and returns how to stop it again.
func runNode(t *testing.T, n *simNode, socket string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- localapi.New(n.config(socket)).Run(ctx) }()
	c := localapi.NewClient(socket)
	defer c.Close()
	for {
		_, err := c.Info(t.Context())
		if err == nil {
			break
		}
		if localapi.CodeOf(err) != localapi.CodeUnavailable {
			t.Fatal(err)
		}
	}
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func appendLog(t *testing.T, n *simNode, task, container string, second int, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(n.dir, task+"-"+container+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "2026-11-22T10:00:%02dZ stdout F %s\n", second, text); err != nil {
		t.Fatal(err)
	}
}

// TestFollowSurvivesWhatUsersSee follows a service while its agent restarts and its task
// is replaced: no line is lost or repeated.
func TestFollowSurvivesWhatUsersSee(t *testing.T) {
	dir, err := os.MkdirTemp("", "ecsd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	n := newNode(t.TempDir())
	appendLog(t, n, webTask, "app", 1, "one")
	stop := runNode(t, n, socket)

	ctx, cancel := context.WithCancel(t.Context())
	out, errOut := &followed{more: make(chan struct{}, 1)}, &followed{more: make(chan struct{}, 1)}
	root := newRootCommand()
	root.SetArgs([]string{"logs", "-f", "--socket", socket, "web/app"})
	root.SetOut(out)
	root.SetErr(errOut)
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	defer cancel()

	out.until(t, "one\n")
	appendLog(t, n, webTask, "app", 2, "two")
	out.until(t, "two\n")
	stop()
	errOut.until(t, "waiting for it to come back")
	appendLog(t, n, webTask, "app", 3, "while the agent was away")
	stop = runNode(t, n, socket)
	defer func() { stop() }()
	out.until(t, "away\n")

	const next = "dddd0000000000000000000000000005"
	appendLog(t, n, next, "app", 4, "the next task")
	n.mu.Lock()
	n.views = append(n.views, simTask(next, "web", "web", time.Second))
	n.mu.Unlock()
	if err := n.stop(webTask, "replaced"); err != nil {
		t.Fatal(err)
	}
	out.until(t, "the next task\n")
	cancel()
	if err := <-done; exitCode(err) != exitInterrupted {
		t.Errorf("interrupted: %v (exit code %d)", err, exitCode(err))
	}
	want := "aaaa0000/app | one\naaaa0000/app | two\naaaa0000/app | while the agent was away\ndddd0000/app | the next task\n"
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out, want)
	}
}

// TestTerminalIsNotCommanded: what goes to a terminal holds no control sequences of the
// container's but colours.
func TestTerminalIsNotCommanded(t *testing.T) {
	var out bytes.Buffer
	p := newLogPrinter(&out, &out, false, func(s stream) string { return s.container })
	p.out.tty = true
	evil := logs.Line{Stream: "stdout", Text: []byte("\x1b]0;owned\x07\x1b[2Jhidden\r")}
	if err := p.print(stream{container: "a\x1b[2J"}, evil); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "\x1b]") || strings.Contains(got, "\x1b[2J") || strings.Contains(got, "\r") || !strings.Contains(got, "hidden") {
		t.Errorf("a terminal is told %q", got)
	}
}

// TestLatestLogsWhenNothingRuns: of a service whose tasks all failed the logs are those of
// the last one, because that is what one wants to see.
func TestLatestLogsWhenNothingRuns(t *testing.T) {
	task := func(id string, age time.Duration) spec.TaskStatus {
		s := simTask(id, "web", "web", age).Status
		s.LastStatus = spec.StatusStopped
		return s
	}
	streams, err := pick(target{kind: kindService, name: "web", tasks: []spec.TaskStatus{task(oldTask, 3*time.Hour), task(webTask, time.Hour), task(jobTask, 2*time.Hour)}}, "app")
	if err != nil || len(streams) != 1 || streams[0].task.TaskID != webTask {
		t.Errorf("pick = %+v, %v", streams, err)
	}
	if _, err := pick(target{kind: kindService, name: "web"}, ""); localapi.CodeOf(err) != localapi.CodeNotFound {
		t.Errorf("a service without any task: %v", err)
	}
}
