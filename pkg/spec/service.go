package spec

// Service is an ECS service: what CreateService takes. JSON names are those of the ECS
// API. It holds the members that ecsd carries out or keeps for a control plane (tiers A
// and B of the API reference); docs/service.md, generated from code, says which is which.
type Service struct {
	Cluster                       string                         `json:"cluster,omitempty"`
	ServiceName                   string                         `json:"serviceName"`
	TaskDefinition                string                         `json:"taskDefinition,omitempty"` // family, family:revision or ARN
	AvailabilityZoneRebalancing   string                         `json:"availabilityZoneRebalancing,omitempty"`
	LoadBalancers                 []LoadBalancer                 `json:"loadBalancers,omitempty"`
	ServiceRegistries             []ServiceRegistry              `json:"serviceRegistries,omitempty"`
	DesiredCount                  *int                           `json:"desiredCount,omitempty"`
	ClientToken                   string                         `json:"clientToken,omitempty"`
	LaunchType                    string                         `json:"launchType,omitempty"`
	CapacityProviderStrategy      []CapacityProviderStrategyItem `json:"capacityProviderStrategy,omitempty"`
	DeploymentConfiguration       *DeploymentConfiguration       `json:"deploymentConfiguration,omitempty"`
	PlacementConstraints          []PlacementConstraint          `json:"placementConstraints,omitempty"`
	PlacementStrategy             []PlacementStrategy            `json:"placementStrategy,omitempty"`
	NetworkConfiguration          *NetworkConfiguration          `json:"networkConfiguration,omitempty"`
	HealthCheckGracePeriodSeconds *int                           `json:"healthCheckGracePeriodSeconds,omitempty"`
	SchedulingStrategy            string                         `json:"schedulingStrategy,omitempty"`
	DeploymentController          *DeploymentController          `json:"deploymentController,omitempty"`
	Tags                          []Tag                          `json:"tags,omitempty"`
	EnableECSManagedTags          *bool                          `json:"enableECSManagedTags,omitempty"`
	PropagateTags                 string                         `json:"propagateTags,omitempty"`
	EnableExecuteCommand          *bool                          `json:"enableExecuteCommand,omitempty"`
	ServiceConnectConfiguration   *ServiceConnectConfiguration   `json:"serviceConnectConfiguration,omitempty"`
	VolumeConfigurations          []ServiceVolumeConfiguration   `json:"volumeConfigurations,omitempty"`
}

// LoadBalancer exposes a container port through a load balancer.
type LoadBalancer struct {
	TargetGroupARN        string                             `json:"targetGroupArn,omitempty"`
	ContainerName         string                             `json:"containerName,omitempty"`
	ContainerPort         int                                `json:"containerPort,omitempty"`
	AdvancedConfiguration *LoadBalancerAdvancedConfiguration `json:"advancedConfiguration,omitempty"`
}

// LoadBalancerAdvancedConfiguration holds what a blue/green deployment shifts.
type LoadBalancerAdvancedConfiguration struct {
	AlternateTargetGroupARN string `json:"alternateTargetGroupArn,omitempty"`
	ProductionListenerRule  string `json:"productionListenerRule,omitempty"`
	TestListenerRule        string `json:"testListenerRule,omitempty"`
}

// ServiceRegistry publishes the service's tasks in service discovery.
type ServiceRegistry struct {
	RegistryARN   string `json:"registryArn,omitempty"`
	Port          int    `json:"port,omitempty"`
	ContainerName string `json:"containerName,omitempty"`
	ContainerPort int    `json:"containerPort,omitempty"`
}

// CapacityProviderStrategyItem is one provider's share of a service's tasks.
type CapacityProviderStrategyItem struct {
	CapacityProvider string `json:"capacityProvider"`
	Weight           int    `json:"weight,omitempty"`
	Base             int    `json:"base,omitempty"`
}

// DeploymentConfiguration bounds a rolling update.
type DeploymentConfiguration struct {
	DeploymentCircuitBreaker *DeploymentCircuitBreaker `json:"deploymentCircuitBreaker,omitempty"`
	MaximumPercent           *int                      `json:"maximumPercent,omitempty"`
	MinimumHealthyPercent    *int                      `json:"minimumHealthyPercent,omitempty"`
	Alarms                   *DeploymentAlarms         `json:"alarms,omitempty"`
	Strategy                 string                    `json:"strategy,omitempty"`
	BakeTimeInMinutes        *int                      `json:"bakeTimeInMinutes,omitempty"`
	LifecycleHooks           []DeploymentLifecycleHook `json:"lifecycleHooks,omitempty"`
	LinearConfiguration      *LinearConfiguration      `json:"linearConfiguration,omitempty"`
	CanaryConfiguration      *CanaryConfiguration      `json:"canaryConfiguration,omitempty"`
}

// DeploymentCircuitBreaker ends a deployment whose tasks keep failing.
type DeploymentCircuitBreaker struct {
	Enable   *bool `json:"enable"`
	Rollback *bool `json:"rollback"`
}

// DeploymentAlarms ends a deployment when an alarm goes off.
type DeploymentAlarms struct {
	AlarmNames []string `json:"alarmNames"`
	Rollback   *bool    `json:"rollback"`
	Enable     *bool    `json:"enable"`
}

// DeploymentLifecycleHook runs at stages of a deployment.
type DeploymentLifecycleHook struct {
	TargetType           string                          `json:"targetType,omitempty"`
	HookTargetARN        string                          `json:"hookTargetArn,omitempty"`
	LifecycleStages      []string                        `json:"lifecycleStages,omitempty"`
	HookDetails          any                             `json:"hookDetails,omitempty"`
	TimeoutConfiguration *DeploymentLifecycleHookTimeout `json:"timeoutConfiguration,omitempty"`
}

// DeploymentLifecycleHookTimeout bounds a lifecycle hook.
type DeploymentLifecycleHookTimeout struct {
	TimeoutInMinutes int    `json:"timeoutInMinutes,omitempty"`
	Action           string `json:"action,omitempty"`
}

// LinearConfiguration shifts traffic in equal steps.
type LinearConfiguration struct {
	StepPercent           float64 `json:"stepPercent,omitempty"`
	StepBakeTimeInMinutes int     `json:"stepBakeTimeInMinutes,omitempty"`
}

// CanaryConfiguration shifts a first slice of the traffic, then the rest.
type CanaryConfiguration struct {
	CanaryPercent           float64 `json:"canaryPercent,omitempty"`
	CanaryBakeTimeInMinutes int     `json:"canaryBakeTimeInMinutes,omitempty"`
}

// PlacementStrategy ranks the instances a task may run on.
type PlacementStrategy struct {
	Type  string `json:"type,omitempty"`
	Field string `json:"field,omitempty"`
}

// NetworkConfiguration is the network of tasks in awsvpc mode.
type NetworkConfiguration struct {
	AWSVPCConfiguration *AWSVPCConfiguration `json:"awsvpcConfiguration,omitempty"`
}

// AWSVPCConfiguration names subnets and security groups.
type AWSVPCConfiguration struct {
	Subnets        []string `json:"subnets"`
	SecurityGroups []string `json:"securityGroups,omitempty"`
}

// DeploymentController says who drives deployments.
type DeploymentController struct {
	Type string `json:"type"`
}

// ServiceConnectConfiguration gives a service steady ports (see docs/services.md).
type ServiceConnectConfiguration struct {
	Enabled   *bool                   `json:"enabled"`
	Namespace string                  `json:"namespace,omitempty"`
	Services  []ServiceConnectService `json:"services,omitempty"`
}

// ServiceConnectService publishes one named port of the task definition.
type ServiceConnectService struct {
	PortName      string                      `json:"portName"`
	DiscoveryName string                      `json:"discoveryName,omitempty"`
	ClientAliases []ServiceConnectClientAlias `json:"clientAliases,omitempty"`
}

// ServiceConnectClientAlias is the port, and optionally the name, that clients use.
type ServiceConnectClientAlias struct {
	Port    int    `json:"port"`
	DNSName string `json:"dnsName,omitempty"`
}

// ServiceVolumeConfiguration gives the details of a volume configured at launch.
type ServiceVolumeConfiguration struct {
	Name             string                                `json:"name"`
	ManagedEBSVolume *ServiceManagedEBSVolumeConfiguration `json:"managedEBSVolume,omitempty"`
}

// ServiceManagedEBSVolumeConfiguration is the volume's size and file system.
type ServiceManagedEBSVolumeConfiguration struct {
	SizeInGiB      *int   `json:"sizeInGiB,omitempty"`
	FilesystemType string `json:"filesystemType,omitempty"`
}
