package introspect

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// The shapes of the Amazon ECS agent's introspection API, with its names and its order.
type (
	commandsAnswer struct {
		AvailableCommands []string
	}
	metadataAnswer struct {
		Cluster              string
		ContainerInstanceARN *string `json:"ContainerInstanceArn"`
		Version              string
	}
	tasksAnswer struct {
		Tasks []taskAnswer
	}
	taskAnswer struct {
		ARN           string `json:"Arn"`
		DesiredStatus string `json:",omitempty"`
		KnownStatus   string
		Family        string
		Version       string
		Containers    []containerAnswer

		ids []string // of its containers, what ?dockerid= is compared with
	}
	containerAnswer struct {
		DockerID     string `json:"DockerId"`
		DockerName   string
		Name         string
		Image        string
		ImageID      string
		CreatedAt    *time.Time      `json:",omitempty"`
		StartedAt    *time.Time      `json:",omitempty"`
		Ports        []portAnswer    `json:",omitempty"`
		Networks     []networkAnswer `json:",omitempty"`
		Volumes      []volumeAnswer  `json:",omitempty"`
		RestartCount *int            `json:",omitempty"`
	}
	portAnswer struct {
		ContainerPort int
		Protocol      string
		HostPort      int    `json:",omitempty"`
		HostIP        string `json:"HostIp,omitempty"`
	}
	networkAnswer struct {
		NetworkMode   string   `json:",omitempty"`
		IPv4Addresses []string `json:",omitempty"`
		IPv6Addresses []string `json:",omitempty"`
	}
	volumeAnswer struct {
		DockerName  string `json:",omitempty"`
		Source      string `json:",omitempty"`
		Destination string `json:",omitempty"`
	}
)

func (c Config) commands(url.Values) (any, error) {
	return commandsAnswer{[]string{"/v1/metadata", "/v1/tasks", "/license"}}, nil
}

func (c Config) metadata(url.Values) (any, error) {
	m := metadataAnswer{Cluster: c.Cluster, Version: "ecsd - " + c.Version}
	if m.Cluster == "" {
		m.Cluster = "default"
	}
	if c.Revision != "" {
		m.Version += " (" + c.Revision + ")"
	}
	if c.ContainerInstanceARN != "" {
		m.ContainerInstanceARN = &c.ContainerInstanceARN
	}
	return m, nil
}

// shortID is the length of Docker's short container id, which ?dockerid= takes too.
const shortID = 12

// tasks lists all tasks, or finds one: by ?taskarn=, or by ?dockerid=, the id of one of
// its containers or the first 12 characters of it. Our container ids begin with their
// task's id, so a short id is ambiguous only between tasks whose ids begin alike.
func (c Config) tasks(q url.Values) (any, error) {
	arn, hasARN := q.Get("taskarn"), q.Has("taskarn")
	id, hasID := q.Get("dockerid"), q.Has("dockerid")
	switch {
	case hasARN && hasID:
		return nil, &httpError{http.StatusBadRequest, "taskarn and dockerid cannot be given both"}
	case hasARN && arn == "", hasID && id == "":
		return nil, &httpError{http.StatusBadRequest, "taskarn and dockerid may not be empty"}
	}
	all := c.list()
	var found []taskAnswer
	switch {
	case hasARN:
		for _, t := range all {
			if t.ARN == arn {
				found = append(found, t)
			}
		}
	case hasID:
		for _, t := range all {
			if slices.ContainsFunc(t.ids, func(have string) bool { return sameContainer(have, id) }) {
				found = append(found, t)
			}
		}
	default:
		return tasksAnswer{all}, nil
	}
	switch len(found) {
	case 0:
		return nil, &httpError{http.StatusNotFound, "no such task: GET /v1/tasks lists them"}
	case 1:
		return found[0], nil
	}
	return nil, &httpError{http.StatusBadRequest, "several tasks have a container whose id begins so: give the whole id"}
}

func sameContainer(have, want string) bool {
	return have == want || len(want) == shortID && strings.HasPrefix(have, want)
}

// list is every task, live ones first, each kind ordered by ARN. It is never nil, so that
// a node without tasks answers an empty list.
func (c Config) list() []taskAnswer {
	out := []taskAnswer{}
	live := map[string]bool{}
	if c.Views != nil {
		for _, v := range c.Views() {
			live[v.Status.TaskID] = true
			out = append(out, fromView(v))
		}
	}
	n := len(out)
	if c.Stopped != nil {
		for _, s := range c.Stopped() {
			if !live[s.TaskID] {
				out = append(out, fromStatus(s, spec.TaskDefinition{}, nil))
			}
		}
	}
	byARN := func(a, b taskAnswer) int { return strings.Compare(a.ARN, b.ARN) }
	slices.SortFunc(out[:n], byARN)
	slices.SortFunc(out[n:], byARN)
	return out
}

func fromView(v reconcile.View) taskAnswer {
	return fromStatus(v.Status, v.Want.Definition, v.Have.Task.Sandbox)
}

// fromStatus puts a task in the Amazon agent's words. Of the definition it takes the
// network mode and the mounts, and nothing else: no environment, no command, no secret.
func fromStatus(s spec.TaskStatus, td spec.TaskDefinition, sandbox *runtime.Sandbox) taskAnswer {
	known, desired := statuses(s)
	t := taskAnswer{
		ARN:           s.TaskARN,
		DesiredStatus: desired,
		KnownStatus:   known,
		Family:        s.Family,
		Version:       strconv.Itoa(s.Revision),
		Containers:    []containerAnswer{},
	}
	for _, cs := range s.Containers {
		c := containerAnswer{
			DockerID:   cs.RuntimeID,
			DockerName: dockerName(s, cs.Name),
			Name:       cs.Name,
			Image:      cs.Image,
			ImageID:    cs.ImageDigest,
			CreatedAt:  cs.CreatedAt,
			StartedAt:  cs.StartedAt,
			Networks:   networks(cs, td.NetworkMode, sandbox),
			Volumes:    volumes(td, cs.Name),
		}
		if cs.RestartCount > 0 {
			c.RestartCount = &cs.RestartCount
		}
		for _, b := range cs.NetworkBindings {
			c.Ports = append(c.Ports, portAnswer{b.ContainerPort, b.Protocol, b.HostPort, b.BindIP})
		}
		if cs.RuntimeID != "" {
			t.ids = append(t.ids, cs.RuntimeID)
		}
		t.Containers = append(t.Containers, c)
	}
	return t
}

// statuses are the two statuses as the Amazon agent shows them: what is not yet running
// is PENDING, what is not yet stopped is RUNNING, and a desired status that the known one
// has passed is left out.
func statuses(s spec.TaskStatus) (known, desired string) {
	known, desired = s.LastStatus, s.DesiredStatus
	if known == spec.StatusStopping {
		known = spec.StatusRunning
	}
	if known == spec.StatusStopped && desired != spec.StatusStopped {
		desired = ""
	}
	return known, desired
}

// dockerName is the name the Amazon agent would have given: ecs-<family>-<revision>-
// <container>-<20 hex>. containerd knows no such name; tools that print it get a steady one.
func dockerName(s spec.TaskStatus, container string) string {
	return "ecs-" + s.Family + "-" + strconv.Itoa(s.Revision) + "-" + container + "-" + s.TaskID[:min(20, len(s.TaskID))]
}

func networks(cs spec.ContainerStatus, mode string, sandbox *runtime.Sandbox) []networkAnswer {
	if mode == "" && sandbox != nil {
		mode = sandbox.NetworkMode
	}
	n := networkAnswer{NetworkMode: mode}
	for _, i := range cs.NetworkInterfaces {
		if i.PrivateIPv4Address != "" {
			n.IPv4Addresses = append(n.IPv4Addresses, i.PrivateIPv4Address)
		}
		if i.IPv6Address != "" {
			n.IPv6Addresses = append(n.IPv6Addresses, i.IPv6Address)
		}
	}
	if len(cs.NetworkInterfaces) == 0 && sandbox != nil {
		have, ok := sandbox.Networks[cs.Name]
		if !ok {
			have = sandbox.Networks[""]
		}
		n.IPv4Addresses = addrs(have.IPv4)
		n.IPv6Addresses = addrs(have.IPv6)
	}
	if n.NetworkMode == "" && n.IPv4Addresses == nil && n.IPv6Addresses == nil {
		return nil
	}
	return []networkAnswer{n}
}

func addrs(a netip.Addr) []string {
	if !a.IsValid() {
		return nil
	}
	return []string{a.String()}
}

func volumes(td spec.TaskDefinition, container string) []volumeAnswer {
	var out []volumeAnswer
	for _, c := range td.ContainerDefinitions {
		if c.Name != container {
			continue
		}
		for _, m := range c.MountPoints {
			v := volumeAnswer{DockerName: m.SourceVolume, Destination: m.ContainerPath}
			for _, vol := range td.Volumes {
				if vol.Name == m.SourceVolume && vol.Host != nil && vol.Host.SourcePath != "" {
					v.DockerName, v.Source = "", vol.Host.SourcePath
				}
			}
			out = append(out, v)
		}
	}
	return out
}
