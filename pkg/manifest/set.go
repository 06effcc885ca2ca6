package manifest

import "ecsd/pkg/spec"

// Statuses of a file.
const (
	StatusAccepted  = "accepted"
	StatusInvalid   = "invalid"   // refused; its last good content, if any, counts on
	StatusDuplicate = "duplicate" // refused: another file defines the same
	StatusIgnored   = "ignored"   // not a manifest
)

// File is one entry of the directory and what became of it.
type File struct {
	Path      string
	Status    string
	Documents []string // what it contributes now: "TaskDefinition web", …
	Reasons   []string // why it is not accepted, each with its place in the file
	Warnings  []string // accepted, but: members without effect, ports claimed twice, …
	KeptGood  bool     // refused, and its last good content counts
}

// Definition is a task definition and where it came from.
type Definition struct {
	TaskDefinition      spec.TaskDefinition // with its defaults, valid
	File                string
	Labels, Annotations map[string]string
}

// Service is a service and where it came from. The definition it names is in the Set.
type Service struct {
	Service             spec.Service // with its defaults, valid
	File                string
	Labels, Annotations map[string]string
}

// Set is everything that the directory defines, ordered by file and place in it. It is a
// value: what it holds is not changed after it has been handed over.
type Set struct {
	Definitions []Definition
	Services    []Service
	// Revision identifies the content: the first digits of a hash over all files that
	// count. The same files give the same revision on every machine.
	Revision string
}

// Family is the family that a service's taskDefinition names, in whatever form; "" when
// it names none.
func Family(ref string) string {
	family, _, ok := spec.ParseTaskDefinitionRef(ref)
	if !ok {
		return ""
	}
	return family
}
