package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"ecsd/pkg/deploy"
	"ecsd/pkg/spec"
)

// recordVersion is the version of the files in services/.
const recordVersion = 1

// maxEvents is how many events a service keeps, as in ECS.
const maxEvents = 100

// record is what is remembered of a service: services/<name>.json.
type record struct {
	Version   int          `json:"version"`
	Name      string       `json:"name"`
	File      string       `json:"file,omitempty"`
	Service   spec.Service `json:"service"`
	Removed   bool         `json:"removed,omitempty"`
	CreatedAt time.Time    `json:"createdAt"`
	Revision  int          `json:"revision"` // the highest that a definition of the service has had

	// Asked is the definition that was asked for last. It differs from the primary
	// deployment's after a rollback.
	Asked definition `json:"asked"`

	State       deploy.State          `json:"state"`
	Definitions map[string]definition `json:"definitions"` // by deployment
	Tasks       map[string]mark       `json:"tasks"`       // by id; a task without task.json does not exist
	Events      []spec.ServiceEvent   `json:"events"`      // newest first
}

// definition is a task definition with its hash, and the digests its images have resolved
// to in a deployment.
type definition struct {
	Hash       string              `json:"hash"`
	Definition spec.TaskDefinition `json:"definition"`
	Images     map[string]string   `json:"images,omitempty"` // by container
}

// mark is what is remembered of a task beside its task.json.
type mark struct {
	Attempt int       `json:"attempt,omitempty"` // deploy.Task.Attempt
	Counted bool      `json:"counted,omitempty"` // deploy.Task.Counted
	Since   spec.Time `json:"since,omitzero"`    // first seen RUNNING
	// Healthy says that the latest verdict was HEALTHY. Health checks begin anew when the
	// agent does; until one has been made a task is what it was.
	Healthy bool   `json:"healthy,omitempty"`
	Boot    string `json:"boot,omitempty"` // in which it was made
	// Behind is where the steady ports lead to in it, while it serves. After a restart of
	// the agent they lead there again before anything has been reported.
	Behind []backend `json:"behind,omitempty"`
}

func (l *loop) recordDir() string { return filepath.Join(l.c.Dir, "services") }

// recordPath is where a service's record is. Names are [A-Za-z0-9_-], at most 255 long.
func (l *loop) recordPath(name string) string {
	return filepath.Join(l.recordDir(), name+".json")
}

// readRecords reads all records. One of a newer version is an error that names it; one
// that cannot be read is logged and passed over.
func (l *loop) readRecords() ([]record, error) {
	if err := os.MkdirAll(l.recordDir(), 0o700); err != nil {
		return nil, fmt.Errorf("open service records: %w", err)
	}
	entries, err := os.ReadDir(l.recordDir())
	if err != nil {
		return nil, fmt.Errorf("read service records: %w", err)
	}
	var out []record
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(name, ".") || !e.Type().IsRegular() {
			continue // what an interrupted write has left, or not ours
		}
		r, err := readRecord(l.recordPath(name))
		switch {
		case errors.Is(err, errNewer):
			return nil, err
		case err != nil:
			l.c.Log.Error("a service's record cannot be read; it is made again from the tasks, its history is lost", "err", err)
			l.metrics.storeErrors.WithLabelValues("load").Inc()
		case r.Name != name:
			l.c.Log.Error("a service's record has another service's name; it is passed over, move it away", "file", l.recordPath(name), "name", r.Name)
		default:
			out = append(out, r)
		}
	}
	return out, nil
}

func readRecord(path string) (record, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return record{}, err
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return record{}, fmt.Errorf("%s: %w", path, err)
	}
	if head.Version > recordVersion {
		return record{}, fmt.Errorf("%s: version %d, this one knows %d: %w; upgrade ecsd or move the file away", path, head.Version, recordVersion, errNewer)
	}
	if head.Version < 1 {
		return record{}, fmt.Errorf("%s: it carries no version", path)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// save writes the service's record if it has changed since it was written last.
func (l *loop) save(s *service) error {
	s.rec.Version = recordVersion
	data, err := json.Marshal(s.rec)
	if err != nil {
		return fmt.Errorf("save service %s: %w", s.name, err)
	}
	if bytes.Equal(data, s.saved) {
		return nil
	}
	if err := renameio.WriteFile(l.recordPath(s.name), data, 0o600); err != nil {
		return fmt.Errorf("save service %s: %w", s.name, err)
	}
	s.saved = data
	return nil
}

// forget removes the service's record. One that is not there is nil.
func (l *loop) forget(s *service) error {
	if err := os.Remove(l.recordPath(s.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove service %s: %w", s.name, err)
	}
	return nil
}
