package deploy

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ecsd/pkg/spec"
)

var update = flag.Bool("update", false, "rewrite the golden scripts")

// TestScripts runs testdata/*.txt: blocks of commands, a line of dashes, and what they
// print. What a command does is said in script.run.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(string(data))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(data) {
				t.Errorf("%s differs from what Plan does now; look at the change with\n\tgo test ./pkg/deploy -run TestScripts -update && git diff\ngot:\n%s", file, got)
			}
		})
	}
}

func runScript(data string) string {
	s := newScript()
	var out bytes.Buffer
	var cmds []string
	expecting := false
	for _, l := range strings.Split(data, "\n") {
		switch {
		case expecting && l != "":
			continue
		case expecting:
			expecting = false
			out.WriteString("\n")
		case l == "----":
			out.WriteString("----\n")
			for _, c := range cmds {
				s.run(&out, c)
			}
			cmds, expecting = nil, true
		default:
			if l != "" && !strings.HasPrefix(l, "#") {
				cmds = append(cmds, l)
			}
			out.WriteString(l + "\n")
		}
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// script is a small world in which Plan's steps are carried out.
type script struct {
	svc   Service
	st    State
	now   spec.Time
	tasks map[string]*Task
	made  int
	last  Steps
}

func newScript() *script {
	return &script{
		svc:   Service{Name: "web", Stable: 2 * time.Second, Bake: 40 * time.Second},
		now:   spec.Time{Boot: "b", At: time.Hour, Wall: time.Unix(3600, 0)},
		tasks: map[string]*Task{},
	}
}

func (s *script) run(out *bytes.Buffer, cmd string) {
	f := strings.Fields(cmd)
	args := f[1:]
	switch f[0] {
	case "service": // service KEY=VALUE…: changes the service
		for _, a := range args {
			s.set(a)
		}
	case "deploy": // deploy ID REVISION: a new primary deployment
		rev, _ := strconv.Atoi(args[1])
		s.st = s.st.Deploy(args[0], rev, s.now)
	case "wait": // wait DURATION
		d, err := time.ParseDuration(args[0])
		if err != nil {
			panic(err)
		}
		s.now = s.now.Add(d)
	case "reboot": // the machine is restarted: every task is dead
		s.now.Boot += "'"
		for _, t := range s.tasks {
			t.Phase = Stopped
		}
	case "block": // block TASK HOLDER,… WORDS…
		t := s.tasks[args[0]]
		t.Holders, t.Blocked = strings.Split(args[1], ","), strings.Join(args[2:], " ")
	case "plan": // prints the steps and carries them out
		s.plan(out)
	case "tasks": // prints the tasks
		s.print(out)
	default: // up, healthy, unhealthy, end, gone, ask, unseen TASK…
		for _, id := range args {
			s.change(f[0], s.tasks[id])
		}
	}
}

func (s *script) set(arg string) {
	k, v, _ := strings.Cut(arg, "=")
	n, _ := strconv.Atoi(v)
	d, _ := time.ParseDuration(v)
	switch k {
	case "desired":
		s.svc.Desired = n
	case "percent":
		lo, hi, _ := strings.Cut(v, "/")
		s.svc.MinimumHealthyPercent, _ = strconv.Atoi(lo)
		s.svc.MaximumPercent, _ = strconv.Atoi(hi)
	case "breaker":
		s.svc.Breaker, s.svc.Rollback = v != "off", v == "rollback"
	case "drain":
		s.svc.Drain = d
	case "grace":
		s.svc.Grace = d
	case "removed":
		s.svc.Removed = true
	default:
		panic("unknown setting " + arg)
	}
}

func (s *script) change(verb string, t *Task) {
	switch verb {
	case "up": // RUNNING
		t.Phase, t.Since, t.Blocked, t.Holders = Running, s.now, "", nil
	case "healthy":
		t.Checked, t.Health = true, spec.HealthHealthy
	case "checked":
		t.Checked = true
	case "unhealthy":
		t.Checked, t.Health = true, spec.HealthUnhealthy
	case "end":
		t.Phase = Stopping
	case "gone":
		t.Phase = Stopped
	case "ask":
		t.Asked = true
	case "unseen":
		t.Phase = Unseen
	default:
		panic("unknown command " + verb)
	}
}

func (s *script) list() []Task {
	var l []Task
	for _, id := range slices.SortedFunc(maps.Keys(s.tasks), byNumber) {
		l = append(l, *s.tasks[id])
	}
	return l
}

func byNumber(a, b string) int {
	x, _ := strconv.Atoi(a[1:])
	y, _ := strconv.Atoi(b[1:])
	return x - y
}

// carry plans and carries out the steps as a node would.
func (s *script) carry() Steps {
	steps := Plan(s.svc, s.st, s.list(), s.now)
	s.last, s.st = steps, steps.State
	for _, t := range s.tasks {
		t.Counted = slices.Contains(steps.Counted, t.ID)
	}
	for _, id := range steps.Drain {
		s.tasks[id].Draining = s.now
	}
	for _, id := range steps.Revive {
		s.tasks[id].Draining = spec.Time{}
	}
	for _, stop := range steps.Stop {
		s.tasks[stop.ID].Asked = true
	}
	for range steps.Start {
		s.made++
		id := fmt.Sprintf("t%d", s.made)
		s.tasks[id] = &Task{ID: id, Deployment: steps.Target, Phase: Pending, Attempt: steps.Attempt, Created: s.now}
	}
	for id, t := range s.tasks {
		if t.Phase == Stopped {
			delete(s.tasks, id)
		}
	}
	return steps
}

func (s *script) plan(out *bytes.Buffer) {
	from := s.made
	steps := s.carry()
	if steps.Start > 0 {
		fmt.Fprintf(out, "start   t%d…t%d of %s\n", from+1, s.made, steps.Target)
	}
	for _, id := range steps.Drain {
		fmt.Fprintf(out, "drain   %s\n", id)
	}
	for _, id := range steps.Revive {
		fmt.Fprintf(out, "revive  %s\n", id)
	}
	for _, st := range steps.Stop {
		fmt.Fprintf(out, "stop    %s: %s\n", st.ID, st.Reason)
	}
	if s.svc.Drain > 0 {
		fmt.Fprintf(out, "serve   %s\n", strings.Join(steps.Serve, " "))
	}
	for _, e := range steps.Events {
		fmt.Fprintf(out, "event   %s\n", e.Message)
	}
	if steps.Waiting != "" {
		fmt.Fprintf(out, "waiting %s\n", steps.Waiting)
	}
	for _, d := range steps.State.Deployments {
		fmt.Fprintf(out, "deployment %s %s failed=%d level=%d", d.ID, d.State, d.Failed, d.Level)
		if d.Hold > 0 {
			fmt.Fprintf(out, " hold=%d", d.Hold)
		}
		fmt.Fprintln(out)
	}
	if steps.After > 0 {
		fmt.Fprintf(out, "again in %s\n", steps.After)
	}
}

func (s *script) print(out *bytes.Buffer) {
	for _, t := range s.list() {
		fmt.Fprintf(out, "%s %s %s", t.ID, t.Deployment, t.Phase)
		if t.Asked {
			fmt.Fprint(out, " asked")
		}
		if !t.Draining.IsZero() {
			fmt.Fprint(out, " draining")
		}
		fmt.Fprintln(out)
	}
}
