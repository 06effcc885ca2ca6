package containerd

import (
	"encoding/json"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"

	"ecsd/pkg/logs"
	"ecsd/pkg/spec"
)

// logNone is the label of a container whose output is discarded.
const logNone = "none"

// logLabel is what is remembered of a container's log configuration: the rotation, so that
// it stays the same for the container's life.
func (r *Runtime) logLabel(c *spec.LogConfiguration) string {
	if c != nil && c.LogDriver == "none" {
		return logNone
	}
	rotation, err := logs.RotationOf(c) // Validate has refused what cannot be read
	if err != nil || c == nil || c.Options["max-size"] == "" && c.Options["max-file"] == "" {
		rotation = logs.Rotation{MaxSize: r.c.LogMaxSize, MaxFile: r.c.LogMaxFile}
	}
	return encode(rotation)
}

// logURI is how containerd is told where a container's output goes: to a small program
// that the shim starts beside it, and which neither an agent's nor containerd's end
// touches. "" discards the output.
func (r *Runtime) logURI(rec containers.Container, terminal bool) (string, error) {
	label := rec.Labels[labelLog]
	if r.c.LogBinary == "" || label == logNone || label == "" {
		return "", nil
	}
	var rotation logs.Rotation
	if err := json.Unmarshal([]byte(label), &rotation); err != nil {
		rotation = logs.Rotation{MaxSize: r.c.LogMaxSize, MaxFile: r.c.LogMaxFile}
	}
	args := logs.WriterArgs(r.LogFile(rec.Labels[labelTask], rec.Labels[labelName]), rotation, terminal)
	uri, err := cio.LogURIGenerator("binary", r.c.LogBinary, args)
	if err != nil {
		return "", err
	}
	return uri.String(), nil
}
