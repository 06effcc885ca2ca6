package agent

import (
	"context"
	"path/filepath"

	"ecsd/pkg/introspect"
	"ecsd/pkg/localapi"
	"ecsd/pkg/reconcile"
	"ecsd/pkg/runtime"
	"ecsd/pkg/spec"
)

// introspection is what the read-only port is told.
func (n *node) introspection(m *introspect.Metrics) introspect.Config {
	return introspect.Config{
		Cluster: n.c.Cluster, Version: n.build.Version, Revision: n.build.Revision,
		Views:    n.reconciler.Views,
		Stopped:  n.history,
		Gatherer: n.registry,
		Healthy:  n.healthy,
		Ready:    n.ready,
		Metrics:  m,
		Log:      n.log,
	}
}

// localAPI is what the socket is told and may do.
func (n *node) localAPI(m *introspect.Metrics) localapi.Config {
	return localapi.Config{
		Socket:         n.c.Socket,
		Info:           n.info,
		Views:          n.reconciler.Views,
		History:        n.history,
		Services:       n.services.List,
		Files:          n.files,
		Events:         n.events,
		LogFile:        n.logFile,
		StopTask:       n.services.StopTask,
		RestartService: n.services.Restart,
		Sync:           n.sync,
		Instrument:     m.Wrap,
		Log:            n.log,
	}
}

// history are the ended tasks that are remembered.
func (n *node) history() []spec.TaskStatus {
	ends := n.records.History()
	out := make([]spec.TaskStatus, len(ends))
	for i, e := range ends {
		out[i] = e.Status
	}
	return out
}

// logFile is where a container's output is; its place does not depend on whether the
// container still exists.
func (n *node) logFile(task, container string) (string, error) {
	return filepath.Join(n.taskLogs(task), container+".log"), nil
}

func (n *node) taskLogs(task string) string { return filepath.Join(n.c.LogDir, "tasks", task) }

// registryAuth says who to be at an image's registry. Credentials that cannot be read
// are said and not used: the registry will say that it wants some.
func (n *node) registryAuth(image string) runtime.Auth {
	c, err := n.registries.Lookup(context.Background(), image)
	if err != nil {
		n.log.Warn("registry credentials cannot be read; the image is pulled without", "image", image, "error", err)
		return runtime.Auth{}
	}
	return runtime.Auth(c)
}

// observed hands a new view to whoever follows tasks.
func (n *node) observed(v reconcile.View) { n.prober.Observe(v) }
