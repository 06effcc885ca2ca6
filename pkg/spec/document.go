package spec

import "slices"

// Kinds of documents, as Document.Kind and the envelope's kind say them.
const (
	KindTaskDefinition = "TaskDefinition"
	KindService        = "Service"
)

// APIVersion is what the envelope's apiVersion must be.
const APIVersion = "ecsd/v1"

// Document is one object read from a file. Exactly one of TaskDefinition and Service is
// set, as Kind says. It is a value: what it points to is not changed after Decode.
type Document struct {
	Kind        string            // KindTaskDefinition or KindService
	Name        string            // the family, or the service's name
	Labels      map[string]string // of the envelope's metadata
	Annotations map[string]string // of the envelope's metadata

	TaskDefinition *TaskDefinition // as written: see TaskDefinition.Defaulted
	Service        *Service        // as written: see Service.Defaulted

	File      string
	Positions Positions

	leftOut uses // see NotCarriedOut
}

// Check validates the document's object, with its defaults, and returns every error with
// its place in the file. A service is checked by itself; what it says about its task
// definition is checked by ValidateService when that is at hand.
func (d Document) Check() Errors {
	var errs Errors
	switch {
	case d.TaskDefinition != nil:
		errs = Validate(*d.TaskDefinition)
	case d.Service != nil:
		errs = ValidateService(*d.Service, nil)
	}
	return d.Locate(errs)
}

// Locate fills file, line and column into errors that concern this document's object, and
// returns them in the order of the file. An error about something that is missing gets
// the place of what it is missing from.
func (d Document) Locate(errs Errors) Errors {
	located := make(Errors, len(errs))
	for i, e := range errs {
		at := d.Positions.At(e.Path)
		located[i] = &FieldError{File: d.File, Line: at.Line, Col: at.Col, Path: e.Path, Reason: e.Reason}
	}
	return located.sorted()
}

// NotCarriedOut names the members of the document that are accepted and have no effect
// here, or not yet, each with the reason: "placementConstraints: no effect: …". See Fields.
func (d Document) NotCarriedOut() []string {
	var said []string
	var found uses
	switch {
	case d.TaskDefinition != nil:
		said, found = NotCarriedOut(*d.TaskDefinition), usesOf(KindTaskDefinition, *d.TaskDefinition)
	case d.Service != nil:
		said, found = ServiceNotCarriedOut(*d.Service), usesOf(KindService, *d.Service)
	}
	for _, f := range d.leftOut {
		if !slices.ContainsFunc(found, func(whole Field) bool { return partOf(f.Path, whole.Path) }) {
			said = append(said, uses{f}.all()...)
		}
	}
	return said
}

// Position is a place in a file.
type Position struct {
	Line int // from 1; 0: not known
	Col  int // from 1, in characters
}

// Positions knows where in its file each part of a document is. It keeps the document's
// parse tree; drop the Document, and it is gone.
type Positions struct{ root *node }

// At is the place of a field, given its path in the ECS object
// ("containerDefinitions[0].portMappings[1].hostPort"; "" is the object itself). For one
// that the file does not have it is the place of the nearest thing around it.
func (p Positions) At(path string) Position {
	if p.root == nil {
		return Position{}
	}
	n := p.root
	for _, s := range parsePath(path) {
		var next *node
		if s.kind == indexStep {
			if n.kind == listNode && s.index >= 0 && s.index < len(n.items) {
				next = &n.items[s.index]
			}
		} else {
			next = n.get(s.name)
		}
		if next == nil {
			break
		}
		n = next
	}
	return Position{Line: int(n.line), Col: int(n.col)}
}
