package spec

import "time"

// Desired and last statuses of a task and of its containers, in ECS's words. A status
// only ever moves down this list.
const (
	StatusPending  = "PENDING"
	StatusRunning  = "RUNNING"
	StatusStopping = "STOPPING"
	StatusStopped  = "STOPPED"
)

// Health verdicts, of a container and of a task (ECS HealthStatus).
const (
	HealthUnknown   = "UNKNOWN"
	HealthHealthy   = "HEALTHY"
	HealthUnhealthy = "UNHEALTHY"
)

// Stop codes (ECS TaskStopCode).
const (
	StopTaskFailedToStart         = "TaskFailedToStart"
	StopEssentialContainerExited  = "EssentialContainerExited"
	StopUserInitiated             = "UserInitiated"
	StopServiceSchedulerInitiated = "ServiceSchedulerInitiated"
	StopTerminationNotice         = "TerminationNotice"
)

// Task is one task to run: a definition bound to an identity. It is a value: nobody
// changes a Task (or anything it points to) once it has been handed over; a change is a
// new Task. Its definition never changes during its life; only DesiredStatus does, once,
// from RUNNING to STOPPED.
type Task struct {
	ID       string `json:"id"`                 // 32 lower-case hex digits, random
	Cluster  string `json:"cluster,omitempty"`  // "default" on a standalone node
	Family   string `json:"family"`             // same as Definition.Family
	Revision int    `json:"revision,omitempty"` // counts the definitions a service has had, from 1
	Service  string `json:"service,omitempty"`  // "" for a one-off task
	Slot     int    `json:"slot"`               // smallest number free in the family when the task was made, from 1
	Source   string `json:"source,omitempty"`   // which Source wants it: "manifest", "run", "cluster"
	Group    string `json:"group,omitempty"`    // ECS: "service:NAME" or "family:NAME"

	StartedBy string `json:"startedBy,omitempty"` // ECS: deployment id "ecs-svc/N" for a service's task

	Definition TaskDefinition `json:"definition"` // defaulted and valid
	// Images pins containers to an image digest ("sha256:…"), by container name, as ECS's
	// versionConsistency wants it: every task of a deployment runs what the first resolved.
	Images map[string]string `json:"images,omitempty"`

	DesiredStatus string    `json:"desiredStatus"`           // RUNNING or STOPPED
	StopCode      string    `json:"stopCode,omitempty"`      // why DesiredStatus is STOPPED
	StoppedReason string    `json:"stoppedReason,omitempty"` // the same in words
	CreatedAt     time.Time `json:"createdAt"`
}

// ARN is the task's Amazon Resource Name in the local partition's form,
// arn:aws:ecs:local:000000000000:task/<cluster>/<id>.
func (t Task) ARN() string {
	return "arn:aws:ecs:local:000000000000:task/" + t.ClusterName() + "/" + t.ID
}

// ClusterName is Cluster, or ECS's "default".
func (t Task) ClusterName() string {
	if t.Cluster == "" {
		return "default"
	}
	return t.Cluster
}

// Container returns the definition of the container of that name.
func (t Task) Container(name string) (ContainerDefinition, bool) {
	for _, c := range t.Definition.ContainerDefinitions {
		if c.Name == name {
			return c, true
		}
	}
	return ContainerDefinition{}, false
}

// TaskStatus is what is known of a task, in the words of ECS's Task: what DescribeTasks
// prints for it. Times are wall time, for display; nil when not reached.
type TaskStatus struct {
	TaskID             string            `json:"taskId"`
	TaskARN            string            `json:"taskArn"`
	ClusterARN         string            `json:"clusterArn,omitempty"`
	TaskDefinitionARN  string            `json:"taskDefinitionArn,omitempty"`
	Family             string            `json:"family"`
	Revision           int               `json:"revision"`
	Service            string            `json:"service,omitempty"`
	Slot               int               `json:"slot,omitempty"`
	Source             string            `json:"source,omitempty"`
	Group              string            `json:"group,omitempty"`
	StartedBy          string            `json:"startedBy,omitempty"`
	LastStatus         string            `json:"lastStatus"`
	DesiredStatus      string            `json:"desiredStatus"`
	HealthStatus       string            `json:"healthStatus"`
	StopCode           string            `json:"stopCode,omitempty"`
	StoppedReason      string            `json:"stoppedReason,omitempty"`
	CPU                string            `json:"cpu,omitempty"`
	Memory             string            `json:"memory,omitempty"`
	CreatedAt          *time.Time        `json:"createdAt,omitempty"`
	PullStartedAt      *time.Time        `json:"pullStartedAt,omitempty"`
	PullStoppedAt      *time.Time        `json:"pullStoppedAt,omitempty"`
	StartedAt          *time.Time        `json:"startedAt,omitempty"`
	StoppingAt         *time.Time        `json:"stoppingAt,omitempty"`
	ExecutionStoppedAt *time.Time        `json:"executionStoppedAt,omitempty"`
	StoppedAt          *time.Time        `json:"stoppedAt,omitempty"`
	Containers         []ContainerStatus `json:"containers"`
	// Waiting says, in words an operator can act on, what the task waits for; empty when it waits for nothing.
	Waiting string `json:"waiting,omitempty"`
	// Blocked says what of the host's (CPU, memory, a port) the task was not given and who
	// has it; empty when it was admitted. A rolling update stops an old task early only for
	// a new one that is blocked.
	Blocked string `json:"blocked,omitempty"`
	// NotCarriedOut names members of the definition that have no effect here, with the reason.
	NotCarriedOut []string `json:"notCarriedOut,omitempty"`
}

// ContainerStatus is what is known of a container, in the words of ECS's Container.
type ContainerStatus struct {
	Name              string             `json:"name"`
	TaskARN           string             `json:"taskArn,omitempty"`
	Image             string             `json:"image"`
	ImageDigest       string             `json:"imageDigest,omitempty"`
	RuntimeID         string             `json:"runtimeId,omitempty"`
	LastStatus        string             `json:"lastStatus"`
	ExitCode          *int               `json:"exitCode,omitempty"`
	Reason            string             `json:"reason,omitempty"`
	HealthStatus      string             `json:"healthStatus,omitempty"`
	RestartCount      int                `json:"restartCount,omitempty"`
	PID               int                `json:"pid,omitempty"`
	Essential         bool               `json:"essential"`
	CreatedAt         *time.Time         `json:"createdAt,omitempty"`
	StartedAt         *time.Time         `json:"startedAt,omitempty"`
	FinishedAt        *time.Time         `json:"finishedAt,omitempty"`
	NetworkBindings   []NetworkBinding   `json:"networkBindings,omitempty"`
	NetworkInterfaces []NetworkInterface `json:"networkInterfaces,omitempty"`
}

// NetworkBinding is a published port (ECS NetworkBinding).
type NetworkBinding struct {
	BindIP             string `json:"bindIP,omitempty"`
	ContainerPort      int    `json:"containerPort,omitempty"`
	HostPort           int    `json:"hostPort,omitempty"`
	Protocol           string `json:"protocol,omitempty"`
	ContainerPortRange string `json:"containerPortRange,omitempty"`
	HostPortRange      string `json:"hostPortRange,omitempty"`
}

// NetworkInterface is an address of a container or task (ECS NetworkInterface).
type NetworkInterface struct {
	PrivateIPv4Address string `json:"privateIpv4Address,omitempty"`
	IPv6Address        string `json:"ipv6Address,omitempty"`
}

// Event is something that happened, for `ecsd events` and the agent's journal.
type Event struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Type    string    `json:"type"`   // Normal or Warning
	Object  string    `json:"object"` // "task/ID", "service/NAME", "manifest/FILE", "agent"
	Reason  string    `json:"reason"` // one CamelCase word, bounded set
	Message string    `json:"message"`
	Count   int       `json:"count,omitempty"` // how often the same was said, when more than once; Time is then the last
}

// Event types.
const (
	EventNormal  = "Normal"
	EventWarning = "Warning"
)
