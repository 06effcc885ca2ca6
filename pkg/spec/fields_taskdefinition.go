package spec

// fieldRow is a Field without its kind.
type fieldRow struct {
	path    string
	support Support
	why     string
}

// Reasons that several fields share.
const (
	whyAWSVPC      = "not carried out yet: awsvpc network mode; use bridge, host or none"
	whySecrets     = "not carried out yet: secrets; without its values the container would not be what was asked for"
	whyEnvFiles    = "not carried out yet: environment files; write the variables into environment"
	whyRepository  = "not carried out yet: credentials per image; give the node ECS_ENGINE_AUTH_DATA or a Docker config file"
	whyVolumesFrom = "not carried out yet: volumesFrom; name the volumes in mountPoints"
	whyEFS         = "not carried out yet: EFS volumes; mount the file system on the host and use host.sourcePath"
	whyS3Files     = "not carried out yet: S3 Files volumes; mount the file system on the host and use host.sourcePath"
	whyFSx         = "FSx for Windows volumes do not exist on Linux"
	whyShared      = "not carried out yet: volumes with scope shared, drivers and options; use a task volume or host.sourcePath"
	whyAtLaunch    = "not carried out yet: volumes configured at launch"
	whyGPU         = "not carried out yet: GPUs and accelerators"
	whyFirelens    = "the log router gets no generated configuration"
	whyAppMesh     = "App Mesh proxies need awsvpc network mode, and AWS has retired the service"
	whyInference   = "AWS has retired Elastic Inference"
	whyOneNode     = "a standalone node is the only place there is"
	whyTags        = "nothing reads tags on a standalone node"
	whyLogOption   = "log files have a size and a number, no more"
	whySecretOpts  = "not carried out yet: secrets; log options from secrets"
)

// taskDefinitionFields is every field of a task definition, in the order of the API.
var taskDefinitionFields = []fieldRow{
	{"family", Carried, "Names the definition; required, unique in a manifest directory."},
	{"taskRoleArn", NotYet, "tasks get no credentials of a role"},
	{"executionRoleArn", NoEffect, "pulls and logs use what the node is configured with"},
	{"networkMode", Carried, "`bridge` (default), `host` or `none`; `awsvpc` is refused: not carried out yet."},

	{"containerDefinitions[].name", Carried, "Required, unique in the task; also the name of the log file."},
	{"containerDefinitions[].image", Carried, "A registry reference (short names mean docker.io) or `oci-archive:/path.tar`; required."},
	{"containerDefinitions[].repositoryCredentials.credentialsParameter", Refused, whyRepository},
	{"containerDefinitions[].cpu", Carried, "CPU shares, 1024 a core, at least 2; admission counts it when the task has no cpu."},
	{"containerDefinitions[].memory", Carried, "Hard limit in MiB, at least 6; beyond it the kernel kills."},
	{"containerDefinitions[].memoryReservation", Carried, "Soft limit in MiB, and what admission sets aside; below memory."},
	{"containerDefinitions[].links[]", NotYet, "Docker's variables for a link are not set; its names in /etc/hosts are, and the start order is kept"},
	{"containerDefinitions[].portMappings[].containerPort", Carried, "Published in bridge mode; unique per container and protocol."},
	{"containerDefinitions[].portMappings[].hostPort", Carried, "0 or left out: a free port of the dynamic range. In host mode it is the container port."},
	{"containerDefinitions[].portMappings[].protocol", Carried, "`tcp` (default) or `udp`."},
	{"containerDefinitions[].portMappings[].name", Carried, "What a service's serviceConnectConfiguration refers to."},
	{"containerDefinitions[].portMappings[].appProtocol", NoEffect, "connections are passed on as they are: there is no proxy to tell"},
	{"containerDefinitions[].portMappings[].containerPortRange", Carried, "`first-last`, published on as many free host ports in a row; bridge mode only."},
	{"containerDefinitions[].essential", Carried, "True by default: the task ends when the container does."},
	{"containerDefinitions[].restartPolicy.enabled", Carried, "Restarts the container in place, on the same root filesystem."},
	{"containerDefinitions[].restartPolicy.ignoredExitCodes[]", Carried, "Exit codes that end the container for good; at most 50."},
	{"containerDefinitions[].restartPolicy.restartAttemptPeriod", Carried, "Least seconds between restarts, 60 to 1800, default 300."},
	{"containerDefinitions[].entryPoint[]", Carried, "Replaces the image's; the image's CMD is dropped with it."},
	{"containerDefinitions[].command[]", Carried, "Replaces the image's CMD."},
	{"containerDefinitions[].environment[].name", Carried, "Over the image's; a name counts once."},
	{"containerDefinitions[].environment[].value", Carried, "Taken as it is: nothing is expanded."},
	{"containerDefinitions[].environmentFiles[].value", Refused, whyEnvFiles},
	{"containerDefinitions[].environmentFiles[].type", Refused, whyEnvFiles},
	{"containerDefinitions[].mountPoints[].sourceVolume", Carried, "A volume of the task."},
	{"containerDefinitions[].mountPoints[].containerPath", Carried, "Absolute; neither `/` nor below `/proc`."},
	{"containerDefinitions[].mountPoints[].readOnly", Carried, "False by default."},
	{"containerDefinitions[].volumesFrom[].sourceContainer", Refused, whyVolumesFrom},
	{"containerDefinitions[].volumesFrom[].readOnly", Refused, whyVolumesFrom},
	{"containerDefinitions[].linuxParameters.capabilities.add[]", Carried, "Onto Docker's default set of 14; `ALL` for all."},
	{"containerDefinitions[].linuxParameters.capabilities.drop[]", Carried, "From that set; `ALL` for all."},
	{"containerDefinitions[].linuxParameters.devices[].hostPath", Carried, "A device of the host."},
	{"containerDefinitions[].linuxParameters.devices[].containerPath", Carried, "The host's path by default."},
	{"containerDefinitions[].linuxParameters.devices[].permissions[]", Carried, "`read`, `write`, `mknod`; all by default."},
	{"containerDefinitions[].linuxParameters.initProcessEnabled", Carried, "An init of ours runs as process 1, forwards signals and reaps."},
	{"containerDefinitions[].linuxParameters.sharedMemorySize", Carried, "Size of /dev/shm in MiB, default 64."},
	{"containerDefinitions[].linuxParameters.tmpfs[].containerPath", Carried, "Absolute; neither `/` nor below `/proc`."},
	{"containerDefinitions[].linuxParameters.tmpfs[].size", Carried, "MiB, above 0."},
	{"containerDefinitions[].linuxParameters.tmpfs[].mountOptions[]", Carried, "Those that ECS lists; `noexec,nosuid,nodev` by default."},
	{"containerDefinitions[].linuxParameters.maxSwap", Carried, "Swap in MiB, where the kernel accounts for it; 0 allows none."},
	{"containerDefinitions[].linuxParameters.swappiness", Carried, "0 to 100, with maxSwap; the kernel has it per container only in cgroup v1."},
	{"containerDefinitions[].secrets[].name", Refused, whySecrets},
	{"containerDefinitions[].secrets[].valueFrom", Refused, whySecrets},
	{"containerDefinitions[].dependsOn[].containerName", Carried, "Another container of the task; no cycles, links counted."},
	{"containerDefinitions[].dependsOn[].condition", Carried, "`START`, `COMPLETE`, `SUCCESS` or `HEALTHY`; containers stop in the reverse order."},
	{"containerDefinitions[].startTimeout", Carried, "Seconds that others wait for this container before the task fails."},
	{"containerDefinitions[].stopTimeout", Carried, "Seconds between the stop signal and SIGKILL; the node's ECS_CONTAINER_STOP_TIMEOUT by default."},
	{"containerDefinitions[].versionConsistency", Carried, "`enabled` (default): all tasks of a deployment run the digest that its first one resolved."},
	{"containerDefinitions[].hostname", Carried, "At most 64 characters."},
	{"containerDefinitions[].user", Carried, "user, uid, user:group, uid:gid, uid:group or user:gid; names are those of the image."},
	{"containerDefinitions[].workingDirectory", Carried, "Absolute."},
	{"containerDefinitions[].disableNetworking", Refused, "not carried out yet: disableNetworking; networkMode none gives no container of the task a network"},
	{"containerDefinitions[].privileged", Carried, "All capabilities and devices, no seccomp, no AppArmor."},
	{"containerDefinitions[].readonlyRootFilesystem", Carried, "False by default."},
	{"containerDefinitions[].dnsServers[]", Carried, "Addresses for /etc/resolv.conf."},
	{"containerDefinitions[].dnsSearchDomains[]", Carried, "Search domains for /etc/resolv.conf."},
	{"containerDefinitions[].extraHosts[].hostname", Carried, "A name for /etc/hosts."},
	{"containerDefinitions[].extraHosts[].ipAddress", Carried, "Its address, IPv4 or IPv6."},
	{"containerDefinitions[].dockerSecurityOptions[]", Carried, "`no-new-privileges`, `apparmor:PROFILE` or `label:VALUE`."},
	{"containerDefinitions[].interactive", Carried, "Keeps standard input open."},
	{"containerDefinitions[].pseudoTerminal", Carried, "Gives the container a terminal."},
	{"containerDefinitions[].dockerLabels{}", Carried, "Labels of the containerd container; key and value at most 4096 bytes together."},
	{"containerDefinitions[].ulimits[].name", Carried, "One of the 15 of ECS, once."},
	{"containerDefinitions[].ulimits[].softLimit", Carried, "At most the hard limit; -1 for none."},
	{"containerDefinitions[].ulimits[].hardLimit", Carried, "-1 for none."},
	{"containerDefinitions[].logConfiguration.logDriver", Carried, "`json-file` (default) or `none`; the others are refused: not carried out yet."},
	{"containerDefinitions[].logConfiguration.options{}", Carried, "`max-size` and `max-file`, the size and number of log files."},
	{"containerDefinitions[].logConfiguration.secretOptions[].name", Refused, whySecretOpts},
	{"containerDefinitions[].logConfiguration.secretOptions[].valueFrom", Refused, whySecretOpts},
	{"containerDefinitions[].healthCheck.command[]", Carried, "`CMD` and arguments, `CMD-SHELL` and a command line, or `NONE`; an image's own check is not used, as on ECS."},
	{"containerDefinitions[].healthCheck.interval", Carried, "Seconds, 5 to 300, default 30."},
	{"containerDefinitions[].healthCheck.timeout", Carried, "Seconds, 2 to 60, default 5."},
	{"containerDefinitions[].healthCheck.retries", Carried, "Failures in a row that make it UNHEALTHY, 1 to 10, default 3."},
	{"containerDefinitions[].healthCheck.startPeriod", Carried, "Seconds in which failures do not count, 0 to 300, default 0."},
	{"containerDefinitions[].systemControls[].namespace", Carried, "A sysctl of the network or IPC namespace, when the task has its own."},
	{"containerDefinitions[].systemControls[].value", Carried, "Its value."},
	{"containerDefinitions[].resourceRequirements[].value", Refused, whyGPU},
	{"containerDefinitions[].resourceRequirements[].type", Refused, whyGPU},
	{"containerDefinitions[].firelensConfiguration.type", NotYet, whyFirelens},
	{"containerDefinitions[].firelensConfiguration.options{}", NotYet, whyFirelens},
	{"containerDefinitions[].credentialSpecs[]", Refused, "not carried out yet: Active Directory credentials"},

	{"volumes[].name", Carried, "Unique in the task."},
	{"volumes[].host.sourcePath", Carried, "A path of the host, made when it is missing; without one, an empty directory that goes with the task."},
	{"volumes[].dockerVolumeConfiguration.scope", Carried, "`task` (default): goes with the task; `shared` is refused: not carried out yet."},
	{"volumes[].dockerVolumeConfiguration.autoprovision", Refused, whyShared},
	{"volumes[].dockerVolumeConfiguration.driver", Carried, "`local` (default); others are refused: not carried out yet."},
	{"volumes[].dockerVolumeConfiguration.driverOpts{}", Refused, whyShared},
	{"volumes[].dockerVolumeConfiguration.labels{}", NoEffect, "a task's volume is a directory and has no labels"},
	{"volumes[].efsVolumeConfiguration.fileSystemId", Refused, whyEFS},
	{"volumes[].efsVolumeConfiguration.rootDirectory", Refused, whyEFS},
	{"volumes[].efsVolumeConfiguration.transitEncryption", Refused, whyEFS},
	{"volumes[].efsVolumeConfiguration.transitEncryptionPort", Refused, whyEFS},
	{"volumes[].efsVolumeConfiguration.authorizationConfig.accessPointId", Refused, whyEFS},
	{"volumes[].efsVolumeConfiguration.authorizationConfig.iam", Refused, whyEFS},
	{"volumes[].s3filesVolumeConfiguration.fileSystemArn", Refused, whyS3Files},
	{"volumes[].s3filesVolumeConfiguration.rootDirectory", Refused, whyS3Files},
	{"volumes[].s3filesVolumeConfiguration.transitEncryptionPort", Refused, whyS3Files},
	{"volumes[].s3filesVolumeConfiguration.accessPointArn", Refused, whyS3Files},
	{"volumes[].fsxWindowsFileServerVolumeConfiguration.fileSystemId", Refused, whyFSx},
	{"volumes[].fsxWindowsFileServerVolumeConfiguration.rootDirectory", Refused, whyFSx},
	{"volumes[].fsxWindowsFileServerVolumeConfiguration.authorizationConfig.credentialsParameter", Refused, whyFSx},
	{"volumes[].fsxWindowsFileServerVolumeConfiguration.authorizationConfig.domain", Refused, whyFSx},
	{"volumes[].configuredAtLaunch", Refused, whyAtLaunch},

	{"placementConstraints[].type", NoEffect, whyOneNode},
	{"placementConstraints[].expression", NoEffect, whyOneNode},
	{"requiresCompatibilities[]", Carried, "Known words only; every definition is run in the same way, and here."},
	{"cpu", Carried, "CPU units (`256`) or vCPUs (`.25 vCPU`): the quota of all containers together, and what admission sets aside."},
	{"memory", Carried, "MiB (`512`) or GB (`0.5 GB`): the limit of all containers together, and what admission sets aside."},
	{"tags[].key", NoEffect, whyTags},
	{"tags[].value", NoEffect, whyTags},
	{"pidMode", Carried, "`host`, or `task` for one PID namespace of all containers; else one each."},
	{"ipcMode", Carried, "`host`, `task` for one IPC namespace of all containers, or `none`; else one each."},
	{"proxyConfiguration.type", Refused, whyAppMesh},
	{"proxyConfiguration.containerName", Refused, whyAppMesh},
	{"proxyConfiguration.properties[].name", Refused, whyAppMesh},
	{"proxyConfiguration.properties[].value", Refused, whyAppMesh},
	{"inferenceAccelerators[].deviceName", NoEffect, whyInference},
	{"inferenceAccelerators[].deviceType", NoEffect, whyInference},
	{"ephemeralStorage.sizeInGiB", NotYet, "the writable space of a task has no limit of its own"},
	{"runtimePlatform.cpuArchitecture", NotYet, "the images of the host's architecture are pulled, whatever it says"},
	{"runtimePlatform.operatingSystemFamily", Carried, "`LINUX` (default); Windows families are refused."},
	{"enableFaultInjection", NotYet, "the task has no endpoint to ask for faults"},
}
