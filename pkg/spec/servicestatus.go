package spec

import "time"

// States of a service (ECS Service status).
const (
	ServiceActive   = "ACTIVE"   // wanted
	ServiceDraining = "DRAINING" // no longer wanted, its tasks are being stopped
	ServiceInactive = "INACTIVE" // gone
)

// Roles of a deployment within its service (ECS Deployment status).
const (
	DeploymentPrimary = "PRIMARY" // the newest: what the service is to become
	DeploymentActive  = "ACTIVE"  // an older one that still has tasks
)

// Rollout states of a deployment (ECS DeploymentRolloutState).
const (
	RolloutInProgress = "IN_PROGRESS"
	RolloutCompleted  = "COMPLETED"
	RolloutFailed     = "FAILED"
)

// Scheduling strategies of a service.
const (
	StrategyReplica = "REPLICA" // desiredCount tasks
	StrategyDaemon  = "DAEMON"  // one task on each container instance
)

// ServiceStatus is what is known of a service, in the words of ECS's Service: what
// DescribeServices prints for it. Times are wall time, for display.
type ServiceStatus struct {
	ServiceARN              string                   `json:"serviceArn"`
	ServiceName             string                   `json:"serviceName"`
	ClusterARN              string                   `json:"clusterArn,omitempty"`
	Status                  string                   `json:"status"` // ServiceActive, …
	DesiredCount            int                      `json:"desiredCount"`
	RunningCount            int                      `json:"runningCount"`
	PendingCount            int                      `json:"pendingCount"`
	TaskDefinition          string                   `json:"taskDefinition"` // ARN of the primary deployment's
	SchedulingStrategy      string                   `json:"schedulingStrategy,omitempty"`
	DeploymentConfiguration *DeploymentConfiguration `json:"deploymentConfiguration,omitempty"`
	Deployments             []DeploymentStatus       `json:"deployments"` // the primary first
	Events                  []ServiceEvent           `json:"events"`      // newest first, at most 100
	CreatedAt               time.Time                `json:"createdAt"`

	// Waiting says, in words an operator can act on, why the service is not yet as it
	// should be; empty when it waits for nothing. Not a member of ECS's Service.
	Waiting string `json:"waiting,omitempty"`
	// File is the manifest the service came from. Not a member of ECS's Service.
	File string `json:"file,omitempty"`
}

// DeploymentStatus is one deployment of a service (ECS Deployment).
type DeploymentStatus struct {
	ID                 string    `json:"id"`     // "ecs-svc/" and digits
	Status             string    `json:"status"` // DeploymentPrimary or DeploymentActive
	TaskDefinition     string    `json:"taskDefinition"`
	DesiredCount       int       `json:"desiredCount"`
	PendingCount       int       `json:"pendingCount"`
	RunningCount       int       `json:"runningCount"`
	FailedTasks        int       `json:"failedTasks"` // in a row
	RolloutState       string    `json:"rolloutState"`
	RolloutStateReason string    `json:"rolloutStateReason"`
	CreatedAt          time.Time `json:"createdAt"`
	UpdatedAt          time.Time `json:"updatedAt"`
}

// ServiceEvent is one line of a service's own journal (ECS ServiceEvent).
type ServiceEvent struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"createdAt"`
	Message   string    `json:"message"`
}
