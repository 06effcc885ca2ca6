package manifest

import (
	"crypto/sha256"
	"fmt"

	"ecsd/pkg/spec"
)

// content is a file's text, read and judged by itself. It is made once for each text and
// never changed.
type content struct {
	hash        [sha256.Size]byte
	data        []byte
	err         error
	cause       string // of err: one of the causes of metrics.go
	definitions []Definition
	services    []Service
	docs        []spec.Document // of the services: for the places of errors found later
	names       []identity      // of all documents, in order
	documents   []string        // names, as File shows them
	ports       []hostPort      // of all definitions
	warnings    []string
}

// identity is what may exist only once.
type identity struct{ kind, name string }

func (i identity) String() string { return i.kind + " " + i.name }

// parse judges a file's text.
func parse(path string, data []byte) *content {
	c := &content{hash: sha256.Sum256(data), data: data}
	docs, err := spec.Decode(path, data)
	if err != nil {
		c.cause = causeSyntax
		_, c.err = spec.Load(path, data) // the same, and what else is wrong
		if c.err == nil {
			c.err = err
		}
		return c
	}
	var errs spec.Errors
	for _, d := range docs {
		errs = append(errs, d.Check()...)
	}
	if err := errs.Err(); err != nil {
		c.err, c.cause = err, causeInvalid
		return c
	}
	for _, d := range docs {
		c.names = append(c.names, identity{d.Kind, d.Name})
		c.documents = append(c.documents, d.Kind+" "+d.Name)
		switch {
		case d.TaskDefinition != nil:
			c.definitions = append(c.definitions, Definition{d.TaskDefinition.Defaulted(), path, d.Labels, d.Annotations})
			c.ports = append(c.ports, hostPorts(*d.TaskDefinition)...)
		case d.Service != nil:
			c.services = append(c.services, Service{d.Service.Defaulted(), path, d.Labels, d.Annotations})
			c.docs = append(c.docs, d)
		}
		for _, w := range d.NotCarriedOut() {
			c.warnings = append(c.warnings, fmt.Sprintf("%s %s: %s", d.Kind, d.Name, w))
		}
	}
	return c
}

// reasons is an error as a list of lines.
func reasons(err error) []string {
	if errs, ok := err.(spec.Errors); ok {
		lines := make([]string, len(errs))
		for i, e := range errs {
			lines[i] = e.Error()
		}
		return lines
	}
	return []string{err.Error()}
}
