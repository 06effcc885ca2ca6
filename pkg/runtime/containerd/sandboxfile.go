package containerd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"ecsd/pkg/runtime"
	"ecsd/pkg/runtime/containerd/network"
)

// sandboxVersion is the newest form of sandbox.json this program writes and reads.
const sandboxVersion = 1

// sandbox is what is remembered of a task's sandbox, in <datadir>/tasks/<id>/sandbox.json.
//
// It describes things that live no longer than the boot they were made in. So the file is
// replaced in one step, but not forced to the disk: what a power cut can take from it, the
// same power cut has ended. One that cannot be read is one that does not exist.
type sandbox struct {
	Version     int    `json:"version"`
	Boot        string `json:"boot"` // id of the boot in which all this was made
	Task        string `json:"task"`
	NetworkMode string `json:"networkMode"`
	// Containers are the names in the order of the definition: the ids follow from it.
	Containers []string         `json:"containers"`
	Identity   runtime.Identity `json:"identity"`
	// Attachments are the network namespaces by container name, "" for one of the task.
	Attachments map[string]network.Attachment `json:"attachments,omitempty"`
	SharedPID   bool                          `json:"sharedPid,omitempty"` // a hidden container holds namespaces
	SharedIPC   bool                          `json:"sharedIpc,omitempty"`
	Complete    bool                          `json:"complete"` // all of it has been made
}

var errNewerSandbox = errors.New("was written by a newer ecsd: upgrade this one")

// loadSandbox reads a task's sandbox; nil when there is none. A file of a newer version is
// an error that names it: nothing may be decided about that task.
func (r *Runtime) loadSandbox(task string) (*sandbox, error) {
	file := r.sandboxFile(task)
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s sandbox
	if err := json.Unmarshal(data, &s); err != nil || s.Task != task {
		if s.Version > sandboxVersion {
			return nil, fmt.Errorf("%s (version %d) %w", file, s.Version, errNewerSandbox)
		}
		r.log.Warn("sandbox record cannot be read and is taken for lost", "file", file, "error", err)
		return nil, nil
	}
	if s.Version > sandboxVersion {
		return nil, fmt.Errorf("%s (version %d) %w", file, s.Version, errNewerSandbox)
	}
	return &s, nil
}

// saveSandbox replaces a task's sandbox record in one step.
func (r *Runtime) saveSandbox(s *sandbox) error {
	s.Version = sandboxVersion
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	file := r.sandboxFile(s.Task)
	temp, err := os.CreateTemp(filepath.Dir(file), ".sandbox-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

func (r *Runtime) sandboxFile(task string) string {
	return filepath.Join(r.taskDir(task), "sandbox.json")
}

// sandboxes lists the tasks that have a sandbox record, in order.
func (r *Runtime) sandboxes() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(r.c.DataDir, "tasks", "*", "sandbox.json"))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range files {
		if id := filepath.Base(filepath.Dir(f)); isTaskID(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// attachments are the network attachments of all sandboxes of this boot, for the network
// to take up again.
func (r *Runtime) attachments() []network.Attachment {
	ids, err := r.sandboxes()
	if err != nil {
		r.log.Warn("cannot list sandboxes", "error", err)
	}
	boot := r.c.Now().Boot
	var all []network.Attachment
	for _, id := range ids {
		s, err := r.loadSandbox(id)
		if err != nil {
			r.log.Warn("sandbox is left alone", "task", id, "error", err)
			continue
		}
		if s == nil || s.Boot != boot {
			continue
		}
		for _, a := range s.Attachments {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b network.Attachment) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}
