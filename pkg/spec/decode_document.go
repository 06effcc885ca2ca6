package spec

import (
	"fmt"
	"reflect"
	"strings"
)

// whatADocumentIs ends the error about a document that is nothing we know.
const whatADocumentIs = "a document must be an ECS task definition (with containerDefinitions), " +
	"an ECS service (with serviceName and taskDefinition), " +
	"or either in an envelope (apiVersion: " + APIVersion + ", kind, metadata, spec)"

// decodeDocument finds out what a document is and binds it. Without a Kind the document
// is nothing.
func decodeDocument(file string, n *node) (Document, Errors) {
	doc := Document{File: file, Positions: Positions{root: n}}
	b := &binder{}
	switch {
	case n.kind != mapNode:
		b.fail(n.line, n.col, "is %s: %s", n.what(), whatADocumentIs)
	case n.getFold("apiVersion") != nil || n.getFold("kind") != nil:
		b.envelope(n, &doc)
	default:
		b.bare(n, &doc)
	}
	doc.leftOut = b.leftOut
	return doc, b.errs
}

// bare binds a document without an envelope. What it is meant to be is told by the keys
// that only one kind has, in any case, so that "ContainerDefinitions" is called a wrong
// key of a task definition and not a wrong document.
func (b *binder) bare(n *node, doc *Document) {
	switch wrapped := n.getFold("taskDefinition"); {
	case n.getFold("containerDefinitions") != nil:
		b.taskDefinition(n, doc)
	case wrapped != nil && wrapped.kind == mapNode:
		b.described(n, doc)
	case n.getFold("serviceName") != nil || wrapped != nil:
		b.service(n, doc)
	case n.getFold("family") != nil:
		b.taskDefinition(n, doc)
	default:
		known := append(structInfoOf(taskDefinitionType).names, "serviceName")
		for i := range n.keys {
			if near := nearest(n.keys[i].name, known); near == "containerDefinitions" || near == "family" {
				b.taskDefinition(n, doc)
				return
			} else if near == "serviceName" || near == "taskDefinition" {
				b.service(n, doc)
				return
			}
		}
		b.fail(n.line, n.col, "is not something ecsd knows: %s", whatADocumentIs)
	}
}

func (b *binder) taskDefinition(n *node, doc *Document) {
	b.kind = KindTaskDefinition
	td := &TaskDefinition{}
	b.bind(n, reflect.ValueOf(td).Elem())
	doc.Kind, doc.Name, doc.TaskDefinition = KindTaskDefinition, td.Family, td
}

func (b *binder) service(n *node, doc *Document) {
	b.kind = KindService
	s := &Service{}
	b.bind(n, reflect.ValueOf(s).Elem())
	doc.Kind, doc.Name, doc.Service = KindService, s.ServiceName, s
}

// described binds the output of describe-task-definition, which has the tags beside the
// definition.
func (b *binder) described(n *node, doc *Document) {
	b.kind = KindTaskDefinition
	td := &TaskDefinition{}
	var tags []Tag
	for i := range n.keys {
		key, item := &n.keys[i], &n.items[i]
		switch key.name {
		case "taskDefinition":
			b.bind(item, reflect.ValueOf(td).Elem())
			doc.Positions.root = item
		case "tags":
			b.steps = append(b.steps, pathStep{name: "tags"})
			b.bind(item, reflect.ValueOf(&tags).Elem())
			b.steps = b.steps[:0]
		default:
			b.unknownAt(key, "tags", "taskDefinition")
		}
	}
	if len(td.Tags) == 0 && len(tags) > 0 {
		td.Tags = tags
	}
	doc.Kind, doc.Name, doc.TaskDefinition = KindTaskDefinition, td.Family, td
}

// metadata is the envelope's middle part.
type metadata struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// envelope binds apiVersion, kind, metadata and spec.
func (b *binder) envelope(n *node, doc *Document) {
	var version, kind string
	var meta metadata
	var body, name *node
	for i := range n.keys {
		key, item := &n.keys[i], &n.items[i]
		b.steps = append(b.steps[:0], pathStep{name: key.name})
		switch key.name {
		case "apiVersion":
			if version, _ = b.str(item); version != APIVersion {
				b.fail(item.line, item.col, "must be %q, not %q", APIVersion, version)
			}
		case "kind":
			kind, _ = b.str(item)
			if kind != KindTaskDefinition && kind != KindService {
				b.fail(item.line, item.col, "must be %s or %s, not %q", KindTaskDefinition, KindService, kind)
			}
		case "metadata":
			b.bind(item, reflect.ValueOf(&meta).Elem())
			name = item.get("name")
		case "spec":
			body = item
		default:
			b.unknownAt(key, "apiVersion", "kind", "metadata", "spec")
		}
	}
	b.steps = b.steps[:0]
	if body != nil && body.kind != mapNode {
		b.steps = append(b.steps, pathStep{name: "spec"})
		b.fail(body.line, body.col, "must be a mapping of fields, not %s", body.what())
		return
	}
	for _, required := range []string{"apiVersion", "kind", "spec"} {
		if n.get(required) == nil {
			b.steps = []pathStep{{name: required}}
			b.fail(n.line, n.col, "is missing: an envelope has apiVersion: %s, kind, metadata and spec", APIVersion)
			b.steps = b.steps[:0]
		}
	}
	if body == nil {
		return
	}
	switch kind {
	case KindTaskDefinition:
		b.taskDefinition(body, doc)
		doc.Name = b.named(meta.Name, name, "spec.family", &doc.TaskDefinition.Family)
	case KindService:
		b.service(body, doc)
		doc.Name = b.named(meta.Name, name, "spec.serviceName", &doc.Service.ServiceName)
	default:
		return
	}
	doc.Positions.root = body
	doc.Labels, doc.Annotations = meta.Labels, meta.Annotations
}

// named makes the envelope's name and the object's own one: either may be left out.
func (b *binder) named(meta string, at *node, path string, own *string) string {
	switch {
	case meta == "" || meta == *own:
	case *own == "":
		*own = meta
	default:
		b.errs = append(b.errs, &FieldError{Line: int(at.line), Col: int(at.col), Path: "metadata.name",
			Reason: fmt.Sprintf("is %q but %s is %q: make them the same, or leave one out", meta, strings.TrimSpace(path), *own)})
	}
	return *own
}
