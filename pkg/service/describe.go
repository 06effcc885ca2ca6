package service

import (
	"slices"
	"strconv"

	"ecsd/pkg/deploy"
	"ecsd/pkg/spec"
)

// describe is the service in the words of ECS's DescribeServices.
func (l *loop) describe(s *service) *spec.ServiceStatus {
	cluster := spec.Task{Cluster: l.c.Cluster}.ClusterName()
	st := &spec.ServiceStatus{
		ServiceARN:              "arn:aws:ecs:local:000000000000:service/" + cluster + "/" + s.name,
		ServiceName:             s.name,
		ClusterARN:              "arn:aws:ecs:local:000000000000:cluster/" + cluster,
		Status:                  spec.ServiceActive,
		DesiredCount:            deploy.FromService(s.rec.Service, 1, l.c.Options).Desired,
		SchedulingStrategy:      s.rec.Service.SchedulingStrategy,
		DeploymentConfiguration: s.rec.Service.DeploymentConfiguration,
		Deployments:             []spec.DeploymentStatus{},
		Events:                  slices.Clone(s.rec.Events),
		CreatedAt:               s.rec.CreatedAt,
		Waiting:                 s.waits,
		File:                    s.rec.File,
	}
	if s.rec.Removed {
		st.Status, st.DesiredCount = spec.ServiceDraining, 0
	}
	for i, d := range s.rec.State.Deployments {
		out := s.describeDeployment(d, st.DesiredCount, i == 0)
		st.RunningCount += out.RunningCount
		st.PendingCount += out.PendingCount
		if i == 0 {
			st.TaskDefinition = out.TaskDefinition
		} else if out.RunningCount+out.PendingCount == 0 && !s.hasTasks(d.ID) {
			continue // kept for a rollback only
		}
		st.Deployments = append(st.Deployments, out)
	}
	return st
}

func (s *service) describeDeployment(d deploy.Deployment, desired int, primary bool) spec.DeploymentStatus {
	out := spec.DeploymentStatus{
		ID:                 d.ID,
		Status:             spec.DeploymentActive,
		TaskDefinition:     "arn:aws:ecs:local:000000000000:task-definition/" + s.rec.Definitions[d.ID].Definition.Family + ":" + strconv.Itoa(d.Revision),
		DesiredCount:       d.Hold,
		FailedTasks:        d.Failed,
		RolloutState:       d.State,
		RolloutStateReason: d.Reason,
		CreatedAt:          d.Created.Wall,
		UpdatedAt:          d.Updated.Wall,
	}
	if primary {
		out.Status = spec.DeploymentPrimary
		if d.State != spec.RolloutFailed {
			out.DesiredCount = desired
		}
	}
	for _, t := range s.tasks {
		if t.want.StartedBy != d.ID {
			continue
		}
		switch t.status.LastStatus {
		case spec.StatusRunning:
			out.RunningCount++
		case spec.StatusStopping, spec.StatusStopped:
		default:
			out.PendingCount++
		}
	}
	return out
}

// hasTasks reports whether anything is left of a deployment's tasks.
func (s *service) hasTasks(deployment string) bool {
	for _, t := range s.tasks {
		if t.want.StartedBy == deployment && !t.over() {
			return true
		}
	}
	return false
}
