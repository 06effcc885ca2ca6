package spec

import (
	"slices"
	"strings"
)

// Limits that ECS documents for a service.
const (
	maxDesiredCount   = 5000
	maxGracePeriod    = 1<<31 - 1
	maxTargetGroups   = 5
	maxStrategyRules  = 5
	maxClientToken    = 36
	maxDiscoveryName  = 64
	maxDNSName        = 127
	maxProviders      = 20
	maxProviderWeight = 1000
	maxProviderBase   = 100000
)

// ValidateService returns everything that is wrong with a service, each error with the
// path of its field. With the task definition that the service runs, what the service
// says about that one's containers and ports is checked as well; nil leaves that out. The
// service may be given as written: it is defaulted first.
func ValidateService(s Service, td *TaskDefinition) Errors {
	v := &validation{}
	v.refused(KindService, s)
	given := s
	s = s.Defaulted()
	v.name("serviceName", s.ServiceName, "serviceName should not be null or empty.")
	v.serviceDefinition(s)
	v.scheduling(given, s)
	v.deployment(s)
	v.placement(s)
	v.tags(s.Tags)
	v.oneOf("propagateTags", s.PropagateTags, "TASK_DEFINITION", "SERVICE", "NONE")
	v.oneOf("availabilityZoneRebalancing", s.AvailabilityZoneRebalancing, "ENABLED", "DISABLED")
	v.between("healthCheckGracePeriodSeconds", s.HealthCheckGracePeriodSeconds, 0, maxGracePeriod, " seconds")
	if len(s.ClientToken) > maxClientToken {
		v.fail("clientToken", "has %d characters: at most %d are allowed", len(s.ClientToken), maxClientToken)
	}
	v.loadBalancers(s, td)
	v.serviceConnect(s.ServiceConnectConfiguration, td)
	return v.errs
}

func (v *validation) serviceDefinition(s Service) {
	if s.TaskDefinition == "" {
		v.fail("taskDefinition", "TaskDefinition can not be blank.")
	} else if _, _, ok := ParseTaskDefinitionRef(s.TaskDefinition); !ok {
		v.fail("taskDefinition", "%s is not a task definition: write family, family:revision or its ARN", shown(s.TaskDefinition))
	}
	v.oneOf("deploymentController.type", s.DeploymentController.Type, "ECS", "CODE_DEPLOY", "EXTERNAL")
	if t := s.DeploymentController.Type; t == "CODE_DEPLOY" || t == "EXTERNAL" {
		v.fail("deploymentController.type", "%s exists on AWS only: use ECS", t)
	}
}

func (v *validation) scheduling(given, s Service) {
	v.oneOf("schedulingStrategy", s.SchedulingStrategy, StrategyReplica, StrategyDaemon)
	if s.SchedulingStrategy == StrategyDaemon && given.DesiredCount != nil {
		v.fail("desiredCount", "The daemon scheduling strategy does not support a desired count: it runs one task on each node.")
	} else {
		v.between("desiredCount", s.DesiredCount, 0, maxDesiredCount, " tasks")
	}
	v.oneOf("launchType", s.LaunchType, "EC2", "FARGATE", "EXTERNAL", "MANAGED_INSTANCES")
	if s.LaunchType != "" && len(s.CapacityProviderStrategy) > 0 {
		v.fail("capacityProviderStrategy", "launchType and capacityProviderStrategy exclude each other")
	}
	if n := len(s.CapacityProviderStrategy); n > maxProviders {
		v.fail("capacityProviderStrategy", "has %d items: at most %d are allowed", n, maxProviders)
	}
	for i, c := range s.CapacityProviderStrategy {
		p := at("capacityProviderStrategy", i)
		if c.CapacityProvider == "" {
			v.fail(p+".capacityProvider", "must not be empty")
		}
		v.between(p+".weight", &c.Weight, 0, maxProviderWeight, "")
		v.between(p+".base", &c.Base, 0, maxProviderBase, "")
	}
}

func (v *validation) deployment(s Service) {
	const p = "deploymentConfiguration"
	d := s.DeploymentConfiguration
	v.between(p+".minimumHealthyPercent", d.MinimumHealthyPercent, 0, 100, " percent")
	switch {
	case s.SchedulingStrategy == StrategyDaemon && *d.MaximumPercent != 100:
		v.fail(p+".maximumPercent", "must be 100 for a DAEMON service, not %d: a node runs one task of it", *d.MaximumPercent)
	case *d.MaximumPercent < 100 || *d.MaximumPercent > 100*maxDesiredCount:
		v.fail(p+".maximumPercent", "must be at least 100 percent, not %d: or the desired count could not be reached", *d.MaximumPercent)
	}
	v.oneOf(p+".strategy", d.Strategy, "ROLLING", "BLUE_GREEN", "LINEAR", "CANARY")
	if slices.Contains([]string{"BLUE_GREEN", "LINEAR", "CANARY"}, d.Strategy) {
		v.fail(p+".strategy", "%s", whyTrafficShift)
	}
	v.between(p+".bakeTimeInMinutes", d.BakeTimeInMinutes, 0, 1440, " minutes")
	if b := d.DeploymentCircuitBreaker; b != nil {
		v.required(p+".deploymentCircuitBreaker.enable", b.Enable)
		v.required(p+".deploymentCircuitBreaker.rollback", b.Rollback)
	}
	if a := d.Alarms; a != nil {
		v.required(p+".alarms.enable", a.Enable)
		v.required(p+".alarms.rollback", a.Rollback)
		if a.AlarmNames == nil {
			v.fail(p+".alarms.alarmNames", "is missing")
		}
	}
}

func (v *validation) required(p string, b *bool) {
	if b == nil {
		v.fail(p, "is missing: it must be true or false")
	}
}

func (v *validation) placement(s Service) {
	v.constraints(s.PlacementConstraints, "distinctInstance", "memberOf")
	if len(s.PlacementStrategy) > 0 && s.SchedulingStrategy == StrategyDaemon {
		v.fail("placementStrategy", "a DAEMON service has none: it runs on every node")
	}
	if n := len(s.PlacementStrategy); n > maxStrategyRules {
		v.fail("placementStrategy", "has %d rules: at most %d are allowed", n, maxStrategyRules)
	}
	for i, r := range s.PlacementStrategy {
		p := at("placementStrategy", i)
		if r.Type == "" {
			v.fail(p+".type", "is missing: it must be random, spread or binpack")
		}
		v.oneOf(p+".type", r.Type, "random", "spread", "binpack")
		field := strings.ToLower(r.Field)
		switch {
		case r.Type == "random" && r.Field != "":
			v.fail(p+".field", "random takes no field")
		case r.Type == "binpack" && field != "cpu" && field != "memory":
			v.fail(p+".field", "must be cpu or memory, not %q", r.Field)
		case r.Type == "spread" && field != "instanceid" && field != "host" && !strings.HasPrefix(field, "attribute:"):
			v.fail(p+".field", "must be instanceId, host or attribute:NAME, not %q", r.Field)
		}
	}
	if n := s.NetworkConfiguration; n != nil && n.AWSVPCConfiguration != nil && len(n.AWSVPCConfiguration.Subnets) == 0 {
		v.fail("networkConfiguration.awsvpcConfiguration.subnets", "must not be empty")
	}
}

func (v *validation) loadBalancers(s Service, td *TaskDefinition) {
	if n := len(s.LoadBalancers); n > maxTargetGroups {
		v.fail("loadBalancers", "has %d target groups: at most %d are allowed", n, maxTargetGroups)
	}
	for i, l := range s.LoadBalancers {
		p := at("loadBalancers", i)
		v.between(p+".containerPort", &l.ContainerPort, 0, maxPort, "")
		if td == nil || l.ContainerName == "" {
			continue
		}
		c := slices.IndexFunc(td.ContainerDefinitions, func(c ContainerDefinition) bool { return c.Name == l.ContainerName })
		switch {
		case c < 0:
			v.fail(p+".containerName", "The container %s does not exist in the task definition.", l.ContainerName)
		case l.ContainerPort != 0 && !slices.ContainsFunc(td.ContainerDefinitions[c].PortMappings, func(m PortMapping) bool { return m.ContainerPort == l.ContainerPort }):
			v.fail(p+".containerPort", "The container %s did not have a container port %d defined.", l.ContainerName, l.ContainerPort)
		}
	}
}

// serviceConnect checks the steady ports: each named, known and free.
func (v *validation) serviceConnect(c *ServiceConnectConfiguration, td *TaskDefinition) {
	if c == nil {
		return
	}
	const root = "serviceConnectConfiguration"
	v.required(root+".enabled", c.Enabled)
	taken := map[int]string{}
	for i, s := range c.Services {
		p := at(root+".services", i)
		port, known := namedPort(td, s.PortName)
		switch {
		case s.PortName == "":
			v.fail(p+".portName", "must not be empty: it is the name of a port mapping")
		case td != nil && !known:
			v.fail(p+".portName", "the task definition has no port mapping named %s", shown(s.PortName))
		case known && port.ContainerPortRange != "":
			v.fail(p+".portName", "%s is a range of ports: a steady port stands before one", shown(s.PortName))
		}
		if len(s.DiscoveryName) > maxDiscoveryName || s.DiscoveryName != "" && !validPortName(s.DiscoveryName) {
			v.fail(p+".discoveryName", "%s is not a name: at most %d of a-z, 0-9, _ and -", shown(s.DiscoveryName), maxDiscoveryName)
		}
		if len(s.ClientAliases) > 1 {
			v.fail(p+".clientAliases", "has %d aliases: at most 1 is allowed", len(s.ClientAliases))
		}
		for j, a := range s.ClientAliases {
			ap := at(p+".clientAliases", j)
			v.between(ap+".port", &a.Port, 1, maxPort, "")
			if first, dup := taken[a.Port]; dup {
				v.fail(ap+".port", "%d is the port of %s too", a.Port, first)
			}
			taken[a.Port] = ap
			if len(a.DNSName) > maxDNSName {
				v.fail(ap+".dnsName", "has %d characters: at most %d are allowed", len(a.DNSName), maxDNSName)
			}
			v.steadyPortFree(a.Port, or(port.Protocol, "tcp"), ap+".port", td)
		}
	}
}

// steadyPortFree refuses a steady port that the service's own tasks take on the host.
func (v *validation) steadyPortFree(port int, protocol, p string, td *TaskDefinition) {
	if td == nil {
		return
	}
	for _, b := range HostPorts(*td) {
		if b.HostPort == port && b.Protocol == protocol {
			v.fail(p, "%d is a host port of the tasks themselves: let them have dynamic ports (hostPort 0)", port)
			return
		}
	}
}

// namedPort finds a port mapping of the definition by its name.
func namedPort(td *TaskDefinition, name string) (PortMapping, bool) {
	if td == nil || name == "" {
		return PortMapping{}, false
	}
	for _, c := range td.ContainerDefinitions {
		for _, m := range c.PortMappings {
			if m.Name == name {
				return m, true
			}
		}
	}
	return PortMapping{}, false
}
