package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"ecsd/pkg/deploy"
	"ecsd/pkg/health"
	"ecsd/pkg/localapi"
	"ecsd/pkg/manifest"
	"ecsd/pkg/reconcile"
	"ecsd/pkg/service"
)

// buildLoops makes the parts that turn: manifests, services, reconciler, health checks.
func (n *node) buildLoops() (err error) {
	memory, err := memoryMiB()
	if err != nil {
		return err
	}
	if n.services, err = service.New(service.Config{
		Dir: n.c.DataDir, Records: n.records, Balancer: n.runtime, Cluster: n.c.Cluster,
		Options: deploy.Options{Stable: orNone(n.c.SteadyAfter), Drain: orNone(n.c.DrainPause)},
		Event:   n.event, Registerer: n.registry, Log: n.log,
	}); err != nil {
		return err
	}
	n.prober = health.New(health.Config{
		Exec: n.runtime, Log: n.log, Registerer: n.registry,
		Changed: func(task string) { n.reconciler.Enqueue(task) },
	})
	n.reconciler = reconcile.New(reconcile.Config{
		Runtime: n.runtime,
		Sources: map[string]reconcile.Source{service.Source: n.services},
		Records: n.records,
		Host: reconcile.Capacity{
			CPU: cores() * 1024, Memory: max(0, memory-n.c.ReservedMemory),
			Reserved: slices.Concat(portNames(n.c.ReservedPorts, "tcp"), portNames(n.c.ReservedPortsUDP, "udp")),
		},
		Auth:   n.registryAuth,
		Health: n.prober.Verdict,
		OnView: n.observed,
		Event:  n.event,
		Forget: n.forget,

		StopTimeout: n.c.StopTimeout,
		Cleanup:     n.c.CleanupWait,
		PullTimeout: n.c.PullTimeout,
		Registerer:  n.registry,
		Logger:      n.log,
	})
	n.manifests = manifest.New(manifest.Config{
		Path: n.c.Manifests, AllowEmpty: n.c.AllowEmpty, LastGood: filepath.Join(n.c.DataDir, "manifests.json"),
		Log: n.log, Registerer: n.registry, Event: n.event,
	})
	return nil
}

// portNames are ports as admission knows them: "22/tcp".
func portNames(ports []uint16, protocol string) []string {
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = strconv.Itoa(int(p)) + "/" + protocol
	}
	return names
}

// orNone turns a pause of nothing into what deploy.Options takes for one.
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// setDesired takes over what the manifests define: each service with its definition, and
// each definition that no service names as a service of its own.
func (n *node) setDesired(set manifest.Set) { n.services.Set(desired(set)) }

func desired(set manifest.Set) []service.Desired {
	definitions := map[string]manifest.Definition{}
	for _, d := range set.Definitions {
		definitions[d.TaskDefinition.Family] = d
	}
	named := map[string]bool{}
	var out []service.Desired
	for _, s := range set.Services {
		family := manifest.Family(s.Service.TaskDefinition)
		d, ok := definitions[family]
		if !ok {
			continue // manifest.Dir refuses such a service; there is nothing to run
		}
		named[family] = true
		out = append(out, service.Desired{Name: s.Service.ServiceName, Service: s.Service, Definition: d.TaskDefinition, File: s.File})
	}
	for _, d := range set.Definitions {
		if named[d.TaskDefinition.Family] {
			continue
		}
		s := service.ForDefinition(d.TaskDefinition)
		out = append(out, service.Desired{Name: s.ServiceName, Service: s, Definition: d.TaskDefinition, File: d.File})
	}
	return out
}

// sync returns when the manifests as they are now have become services.
func (n *node) sync(ctx context.Context) error {
	if err := n.manifests.Rescan(ctx); err != nil {
		return err
	}
	return n.services.Settle()
}

// files is the state of every manifest file, for the socket.
func (n *node) files() []localapi.ManifestFile {
	var out []localapi.ManifestFile
	for _, f := range n.manifests.Files() {
		out = append(out, localapi.ManifestFile(f))
	}
	return out
}

// forget removes what else is kept of an ended task: its logs, its verdicts.
func (n *node) forget(task string) error {
	n.prober.Forget(task)
	err := os.RemoveAll(n.taskLogs(task))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// healthy says whether the agent itself works, whatever containerd does.
func (n *node) healthy() error {
	if !n.reconciler.Alive() {
		return errors.New("the reconcile loop has not turned for a while: see the agent's log")
	}
	return nil
}
