package spec

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// Network modes of a task definition.
const (
	NetworkBridge = "bridge"
	NetworkHost   = "host"
	NetworkAWSVPC = "awsvpc"
	NetworkNone   = "none"
)

// Conditions of a container dependency.
const (
	ConditionStart    = "START"
	ConditionComplete = "COMPLETE"
	ConditionSuccess  = "SUCCESS"
	ConditionHealthy  = "HEALTHY"
)

// Defaults that ECS documents.
const (
	defaultHealthInterval       = 30  // seconds
	defaultHealthTimeout        = 5   // seconds
	defaultHealthRetries        = 3   //
	defaultRestartAttemptPeriod = 300 // seconds
)

// Defaulted returns the definition with everything spelled out that ECS leaves to
// defaults, and amounts in one form: cpu "1 vCPU" becomes "1024", memory "1GB" becomes
// "1024". What only a control plane sets (revision, ARN, status, …) is taken out: it is
// ignored in a manifest. What cannot be read is left as it is, for Validate to name.
//
// The result shares nothing with td that it changes; td stays as it was. Defaulting a
// defaulted definition changes nothing.
func (td TaskDefinition) Defaulted() TaskDefinition {
	td.TaskDefinitionARN, td.Revision, td.Status = "", 0, ""
	td.RequiresAttributes, td.Compatibilities = nil, nil
	td.RegisteredAt, td.DeregisteredAt, td.RegisteredBy, td.DeleteRequestedAt = nil, nil, "", nil

	td.NetworkMode = or(td.NetworkMode, NetworkBridge)
	if units, err := parseCPU(td.CPU); err == nil {
		td.CPU = strconv.Itoa(units)
	}
	if mib, err := parseMemory(td.Memory); err == nil {
		td.Memory = strconv.Itoa(mib)
	}
	td.ContainerDefinitions = slices.Clone(td.ContainerDefinitions)
	for i := range td.ContainerDefinitions {
		td.ContainerDefinitions[i] = td.ContainerDefinitions[i].defaulted(td.NetworkMode)
	}
	td.Volumes = slices.Clone(td.Volumes)
	for i := range td.Volumes {
		if d := td.Volumes[i].DockerVolumeConfiguration; d != nil {
			c := *d
			c.Scope = or(c.Scope, "task")
			c.Driver = or(c.Driver, "local")
			c.Autoprovision = orNew(c.Autoprovision, false)
			td.Volumes[i].DockerVolumeConfiguration = &c
		}
	}
	if td.RuntimePlatform != nil {
		p := *td.RuntimePlatform
		p.OperatingSystemFamily = or(p.OperatingSystemFamily, "LINUX")
		td.RuntimePlatform = &p
	}
	return td
}

func (c ContainerDefinition) defaulted(networkMode string) ContainerDefinition {
	c.Essential = orNew(c.Essential, true)
	c.VersionConsistency = or(c.VersionConsistency, "enabled")
	c.PortMappings = slices.Clone(c.PortMappings)
	for i := range c.PortMappings {
		p := &c.PortMappings[i]
		p.Protocol = or(p.Protocol, "tcp")
		if p.HostPort == 0 && (networkMode == NetworkHost || networkMode == NetworkAWSVPC) {
			p.HostPort = p.ContainerPort
		}
	}
	c.MountPoints = slices.Clone(c.MountPoints)
	for i := range c.MountPoints {
		c.MountPoints[i].ReadOnly = orNew(c.MountPoints[i].ReadOnly, false)
	}
	if c.HealthCheck != nil {
		h := *c.HealthCheck
		h.Interval = orNew(h.Interval, defaultHealthInterval)
		h.Timeout = orNew(h.Timeout, defaultHealthTimeout)
		h.Retries = orNew(h.Retries, defaultHealthRetries)
		h.StartPeriod = orNew(h.StartPeriod, 0)
		c.HealthCheck = &h
	}
	if c.RestartPolicy.enabled() {
		r := *c.RestartPolicy
		r.RestartAttemptPeriod = orNew(r.RestartAttemptPeriod, defaultRestartAttemptPeriod)
		c.RestartPolicy = &r
	}
	if c.LinuxParameters != nil && len(c.LinuxParameters.Devices) > 0 {
		l := *c.LinuxParameters
		l.Devices = slices.Clone(l.Devices)
		for i := range l.Devices {
			d := &l.Devices[i]
			d.ContainerPath = or(d.ContainerPath, d.HostPath)
			if len(d.Permissions) == 0 {
				d.Permissions = []string{"read", "write", "mknod"}
			}
		}
		c.LinuxParameters = &l
	}
	return c
}

func (r *RestartPolicy) enabled() bool { return r != nil && r.Enabled != nil && *r.Enabled }

// IsEssential reports whether the task ends when this container does: ECS's default.
func (c ContainerDefinition) IsEssential() bool { return c.Essential == nil || *c.Essential }

// StopTimeoutOr is the time between the stop signal and SIGKILL; otherwise is the node's
// setting (ECS_CONTAINER_STOP_TIMEOUT), for a container that asks for none.
func (c ContainerDefinition) StopTimeoutOr(otherwise time.Duration) time.Duration {
	if c.StopTimeout == nil {
		return otherwise
	}
	return time.Duration(*c.StopTimeout) * time.Second
}

// HasHealthCheck reports whether ECS would know a health of this container: it has a
// health check and that is not switched off with NONE.
func (c ContainerDefinition) HasHealthCheck() bool {
	return c.HealthCheck != nil && len(c.HealthCheck.Command) > 0 && c.HealthCheck.Command[0] != "NONE"
}

// HostPorts lists the host ports that the definition asks for by number, each with the
// container port behind it, in the order of the definition. Ports that are to be found
// when the task starts are not in it. On the host's network every port is a host port.
func HostPorts(td TaskDefinition) []NetworkBinding {
	var ports []NetworkBinding
	for _, c := range td.Defaulted().ContainerDefinitions {
		for _, p := range c.PortMappings {
			if p.HostPort != 0 {
				ports = append(ports, NetworkBinding{ContainerPort: p.ContainerPort, HostPort: p.HostPort, Protocol: p.Protocol})
			}
		}
	}
	return ports
}

// Defaulted returns the service with everything spelled out that ECS leaves to defaults:
// REPLICA, one task, a rolling deployment by ECS between 100 and 200 percent (a DAEMON
// service: between 0 and 100, without a desired count). ECS itself wants desiredCount
// stated for a REPLICA service; a manifest may leave it out.
//
// The result shares nothing with s that it changes; s stays as it was. Defaulting a
// defaulted service changes nothing.
func (s Service) Defaulted() Service {
	s.SchedulingStrategy = or(s.SchedulingStrategy, StrategyReplica)
	minimum, maximum := 100, 200
	if s.SchedulingStrategy == StrategyDaemon {
		minimum, maximum = 0, 100
	} else {
		s.DesiredCount = orNew(s.DesiredCount, 1)
	}
	var d DeploymentConfiguration
	if s.DeploymentConfiguration != nil {
		d = *s.DeploymentConfiguration
	}
	d.MinimumHealthyPercent = orNew(d.MinimumHealthyPercent, minimum)
	d.MaximumPercent = orNew(d.MaximumPercent, maximum)
	d.Strategy = or(d.Strategy, "ROLLING")
	s.DeploymentConfiguration = &d
	c := DeploymentController{}
	if s.DeploymentController != nil {
		c = *s.DeploymentController
	}
	c.Type = or(c.Type, "ECS")
	s.DeploymentController = &c
	return s
}

// or is s, or otherwise when s is empty.
func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// orNew is p, or a pointer to otherwise when p is nil.
func orNew[T any](p *T, otherwise T) *T {
	if p == nil {
		return &otherwise
	}
	return p
}

// sortedKeys lists a map's keys in order, so that errors come in the same order each time.
func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
