package reconcile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// TestScripts plays the scripts of testdata/*.txtar: a definition, a script of what happens
// on the machine, and the transcript of what Plan and Status answer. Words of a script:
//
//	admit, block TEXT             room on the host
//	plan                          print the plan
//	do                            print the plan and carry all of it out
//	go                            do, until there is nothing to do
//	status                        print the status
//	pulling C, pulled C           an image's pull begins, is done
//	pullfail C CODE TEXT          a pull fails for good
//	fail C|- CODE TEXT            a step fails for good; - is the task itself
//	exit C N|?                    a container ends; ? is an unknown code
//	oom C                         the kernel kills it for its memory
//	health C VERDICT              its health check speaks
//	processes N                   that many outlive their container
//	sandbox broken                the sandbox needs a repair
//	stop CODE TEXT                the task is to be stopped
//	forget                        the agent is a new one, which knows of no stop
//	wait DURATION, reboot         time passes; the machine restarts
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Files) < 2 {
				t.Fatal("want the files definition and script, and perhaps transcript")
			}
			task := spec.Task{ID: strings.Repeat("0", 31) + "1", Family: "fam", Revision: 1, DesiredStatus: spec.StatusRunning}
			if err := yaml.UnmarshalStrict(archive.Files[0].Data, &task.Definition); err != nil {
				t.Fatal(err)
			}
			got := play(t, newWorld(task), string(archive.Files[1].Data))
			if *update {
				archive.Files = append(archive.Files[:2], txtar.File{Name: "transcript", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(archive.Files) < 3 || string(archive.Files[2].Data) != got {
				t.Errorf("the transcript differs (-update rewrites it); now it is:\n%s", got)
			}
		})
	}
}

func play(t *testing.T, w *world, script string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fmt.Fprintf(&out, "> %s\n", line)
		out.WriteString(word(t, w, strings.Fields(line)))
	}
	return out.String()
}

// word carries out one line of a script.
func word(t *testing.T, w *world, f []string) string {
	t.Helper()
	rest := func(from int) string { return strings.Join(f[from:], " ") }
	switch f[0] {
	case "admit":
		w.have.Admitted, w.have.Blocked = true, ""
	case "block":
		w.have.Blocked = rest(1)
	case "plan":
		return show(w.plan())
	case "do":
		steps := w.plan()
		for _, a := range steps.Actions {
			w.apply(a)
		}
		return show(steps)
	case "go":
		return run(t, w)
	case "status":
		return showStatus(w.status())
	case "pulling":
		w.have.Pulls[f[1]] = Pull{Started: w.now}
	case "pulled":
		w.apply(Action{Verb: PullImage, Container: f[1]})
	case "pullfail":
		w.have.Pulls[f[1]] = Pull{Started: w.now, Done: w.now, Err: runtime.NewTaskError(f[2], nil, "%s", rest(3))}
	case "fail":
		w.have.Failed[strings.TrimPrefix(f[1], "-")] = runtime.NewTaskError(f[2], nil, "%s", rest(3))
	case "exit":
		var code *int
		if n, err := strconv.Atoi(f[2]); err == nil {
			code = &n
		}
		w.exit(f[1], code)
	case "oom":
		code := 137
		w.exit(f[1], &code)
		w.have.Task.Containers[f[1]].Exit.OOMKilled = true
	case "health":
		w.have.Health[f[1]] = Health{Status: f[2]}
	case "processes":
		n, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatal(err)
		}
		w.have.Task.Processes = n
	case "sandbox":
		w.have.Task.Sandbox = &runtime.Sandbox{}
	case "stop":
		w.want.DesiredStatus, w.want.StopCode, w.want.StoppedReason = spec.StatusStopped, f[1], rest(2)
	case "forget":
		w.want.DesiredStatus, w.want.StopCode, w.want.StoppedReason = spec.StatusRunning, "", ""
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		w.pass(d)
	case "reboot":
		w.reboot()
	default:
		t.Fatalf("unknown word %q", f[0])
	}
	return ""
}

// run does what is planned until nothing is.
func run(t *testing.T, w *world) string {
	t.Helper()
	var out strings.Builder
	for range 50 {
		steps := w.plan()
		out.WriteString(show(steps))
		if len(steps.Actions) == 0 {
			return out.String()
		}
		for _, a := range steps.Actions {
			w.apply(a)
		}
	}
	t.Fatalf("no rest after 50 plans:\n%s", out.String())
	return ""
}
