package containerd

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/containers"

	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// Labels that the Amazon agent sets too, so that what reads them works here as well.
const (
	labelARN      = "com.amazonaws.ecs.task-arn"
	labelName     = "com.amazonaws.ecs.container-name"
	labelFamily   = "com.amazonaws.ecs.task-definition-family"
	labelRevision = "com.amazonaws.ecs.task-definition-version"
	labelCluster  = "com.amazonaws.ecs.cluster"
)

// Labels of our own. The first group never changes; the second describes the current run
// and is emptied when the container is started again.
const (
	labelTask       = "ecsd/task"
	labelIndex      = "ecsd/index" // in the definition; "init" is the hidden one that holds namespaces
	labelService    = "ecsd/service"
	labelSlot       = "ecsd/slot"
	labelSource     = "ecsd/source"
	labelSpecHash   = "ecsd/spec-hash"
	labelImage      = "ecsd/image"
	labelDigest     = "ecsd/image-digest"
	labelStopSignal = "ecsd/stop-signal"
	labelCgroup     = "ecsd/cgroup" // name of the container's group in its task's
	labelLog        = "ecsd/log"    // logs.Rotation as JSON, or "none"
	labelCreated    = "ecsd/created"

	labelRestarts     = "ecsd/restarts"
	labelStarted      = "ecsd/started"       // spec.Time as JSON
	labelStopSignaled = "ecsd/stop-signaled" // spec.Time as JSON
	labelExit         = "ecsd/exit"          // runtime.Exit as JSON

	// labelOOMKills counts the OOM kills of all runs before the current one.
	labelOOMKills = "ecsd/oom-kills"
)

const indexInit = "init"

// maxLabel is containerd's limit on the length of a label's key and value together.
const maxLabel = 4096

// containerID is the id of a task's container, snapshot and cgroup scope: containerd
// refuses many a name that ECS takes, so names are labels.
func containerID(task string, index int) string { return task + "-" + strconv.Itoa(index) }

func initID(task string) string { return task + "-" + indexInit }

// taskOf is the task a container id belongs to; "" when it is none of ours.
func taskOf(id string) string {
	task, _, ok := strings.Cut(id, "-")
	if !ok || !isTaskID(task) {
		return ""
	}
	return task
}

// isTaskID reports whether s is 32 lower-case hex digits. Paths are made of task ids, so
// nothing else may pass for one.
func isTaskID(s string) bool {
	if len(s) != 32 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// identityLabels are the labels that say whose container it is.
func identityLabels(t spec.Task, name, index string) map[string]string {
	return map[string]string{
		labelARN:      t.ARN(),
		labelName:     name,
		labelFamily:   t.Family,
		labelRevision: strconv.Itoa(t.Revision),
		labelCluster:  t.ClusterName(),
		labelTask:     t.ID,
		labelIndex:    index,
		labelService:  t.Service,
		labelSlot:     strconv.Itoa(t.Slot),
		labelSource:   t.Source,
	}
}

// addDockerLabels adds the definition's own labels. Those that containerd would refuse for
// their length are left out and returned; ours cannot be overwritten.
func addDockerLabels(labels, docker map[string]string) (skipped []string) {
	for k, v := range docker {
		if _, ours := labels[k]; ours || strings.HasPrefix(k, "ecsd/") || strings.HasPrefix(k, "containerd.io/") || k == "" || len(k)+len(v) > maxLabel {
			skipped = append(skipped, k)
			continue
		}
		labels[k] = v
	}
	return skipped
}

// identityOf reads who a container's task is.
func identityOf(labels map[string]string) runtime.Identity {
	return runtime.Identity{
		Cluster:  labels[labelCluster],
		Family:   labels[labelFamily],
		Service:  labels[labelService],
		Source:   labels[labelSource],
		Revision: atoi(labels[labelRevision]),
		Slot:     atoi(labels[labelSlot]),
	}
}

// recorded is a container as its record alone tells it: as it was last written down.
func recorded(rec containers.Container) runtime.Container {
	l := rec.Labels
	c := runtime.Container{
		Name:         l[labelName],
		ID:           rec.ID,
		SpecHash:     l[labelSpecHash],
		ImageDigest:  l[labelDigest],
		Restarts:     atoi(l[labelRestarts]),
		Created:      decodeTime(l[labelCreated]),
		Started:      decodeTime(l[labelStarted]),
		StopSignaled: decodeTime(l[labelStopSignaled]),
	}
	if s := l[labelExit]; s != "" {
		var e exitLabel
		if err := json.Unmarshal([]byte(s), &e); err == nil {
			c.Exit = &runtime.Exit{Code: e.Code, At: e.At, OOMKilled: e.OOM}
			c.OOMKills = e.OOMKills
		}
	}
	return c
}

// exitLabel is how an exit is written into a label.
type exitLabel struct {
	Code     *int      `json:"code,omitempty"` // absent: nobody knows
	At       spec.Time `json:"at"`
	OOM      bool      `json:"oom,omitempty"`
	OOMKills int       `json:"oomKills,omitempty"`
}

func encodeExit(e runtime.Exit, oomKills int) string {
	return encode(exitLabel{Code: e.Code, At: trim(e.At), OOM: e.OOMKilled, OOMKills: oomKills})
}

func encodeTime(t runtime.Time) string { return encode(trim(t)) }

// trim drops what JSON cannot keep (the monotonic reading), so that a moment equals itself
// after it was read back.
func trim(t runtime.Time) runtime.Time {
	t.Wall = t.Wall.Round(0).UTC()
	return t
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // a struct of plain fields cannot fail
		panic(err)
	}
	return string(b)
}

// decodeTime reads a moment; what cannot be read never was.
func decodeTime(s string) runtime.Time {
	var t runtime.Time
	if s == "" || json.Unmarshal([]byte(s), &t) != nil {
		return runtime.Time{}
	}
	return t
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// at turns a wall time that containerd reports into a moment of this boot, reckoned back
// from now. The wall clock may have been set in between: the result never lies after now,
// nor before notBefore.
func at(wall time.Time, now, notBefore runtime.Time) runtime.Time {
	if wall.IsZero() || wall.Unix() <= 0 {
		return now
	}
	ago := max(now.Wall.Sub(wall), 0)
	if d, ok := now.Since(notBefore); ok && ago > d {
		ago = d
	}
	if ago > now.At {
		ago = now.At
	}
	t := now.Add(-ago)
	t.Wall = wall.UTC()
	return t
}
