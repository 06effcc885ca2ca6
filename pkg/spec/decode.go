package spec

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Limits of a file. ECS itself takes definitions of at most 64 KiB; a file may hold many.
const (
	maxFileSize = 1 << 20
	maxDepth    = 64
)

// Decode reads a file of ECS task definitions and services, as YAML or, when its name
// ends in .json, as JSON. Each document is one of
//
//   - a task definition, as `aws ecs register-task-definition --cli-input-json` takes it;
//   - the output of `aws ecs describe-task-definition`: {"taskDefinition": {…}, "tags": […]};
//   - a service, as `aws ecs create-service --cli-input-json` takes it;
//   - either in an envelope: apiVersion: ecsd/v1, kind: TaskDefinition or Service,
//     metadata: {name, labels, annotations}, spec: {…}.
//
// The decoder is strict, because a manifest that is half understood runs the wrong thing:
// keys count in their exact case and once; strings are not made of YAML's booleans and
// numbers (but for cpu and memory of a task definition, which ECS users write both ways);
// numbers are decimal, without leading zeros; a key without a value, merge keys and tags
// are refused; aliases are allowed within bounds. A file is UTF-8 (a byte order mark and
// CRLF are fine) of at most 1 MiB and 64 levels. A member of ECS's that ecsd has no use
// for is no error: Document.NotCarriedOut names it.
//
// The error is of type Errors and holds all errors of the file, in its order. The
// documents are returned also then, as far as they could be read, so that Load can check
// the rest of them; nobody should run them. Values are as written: Defaulted completes
// them.
func Decode(file string, data []byte) ([]Document, error) {
	nodes, errs := parseFile(file, data)
	if len(nodes) == 0 && len(errs) == 0 {
		errs = Errors{{Line: 1, Col: 1, Reason: "is empty: it must hold an ECS task definition or service"}}
	}
	var docs []Document
	for i := range nodes {
		doc, docErrs := decodeDocument(file, &nodes[i])
		errs = append(errs, docErrs...)
		if doc.Kind != "" {
			docs = append(docs, doc)
		}
	}
	errs = append(errs, repeatedDocuments(docs)...)
	for _, e := range errs {
		e.File = file
	}
	return docs, errs.sorted().Err()
}

// Load is Decode and then Check of every document, with the errors of both in one list:
// what a file's author wants to see. The documents are usable when the error is nil.
func Load(file string, data []byte) ([]Document, error) {
	docs, err := Decode(file, data)
	decoded, _ := err.(Errors)
	all := decoded
	for _, doc := range docs {
		for _, e := range doc.Check() {
			if !decoded.touch(e) {
				all = append(all, e)
			}
		}
	}
	return docs, all.sorted().Err()
}

// touch reports whether one of these errors already concerns the field of e, a part of it
// or what it is part of: what could not be decoded must not be called missing as well.
func (e Errors) touch(f *FieldError) bool {
	for _, d := range e {
		if d.Path != "" && (partOf(d.Path, f.Path) || partOf(f.Path, d.Path)) || d.meant != "" && partOf(f.Path, d.meant) {
			return true
		}
	}
	return false
}

// parseFile checks what can be seen in the bytes and gives them to the right parser.
func parseFile(file string, data []byte) ([]node, Errors) {
	if len(data) > maxFileSize {
		return nil, Errors{{Line: 1, Col: 1, Reason: fmt.Sprintf("has %d bytes: at most %d are allowed", len(data), maxFileSize)}}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if i := badByte(data); i >= 0 {
		line := 1 + bytes.Count(data[:i], []byte("\n"))
		col := 1 + utf8.RuneCount(data[bytes.LastIndexByte(data[:i], '\n')+1:i])
		reason := "is not UTF-8 text"
		if data[i] == 0 {
			reason = "holds a NUL byte: it is not text"
		}
		return nil, Errors{{Line: line, Col: col, Reason: reason}}
	}
	if strings.EqualFold(filepath.Ext(file), ".json") {
		return parseJSON(data)
	}
	return parseYAML(data)
}

// badByte is the offset of the first byte that is no part of UTF-8 text, or -1.
func badByte(data []byte) int {
	if utf8.Valid(data) {
		return bytes.IndexByte(data, 0)
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size <= 1 || r == 0 {
			return i
		}
		i += size
	}
	return -1
}

// repeatedDocuments finds objects that a file defines twice.
func repeatedDocuments(docs []Document) (errs Errors) {
	first := map[[2]string]Position{}
	for _, d := range docs {
		if d.Name == "" {
			continue
		}
		id := [2]string{d.Kind, d.Name}
		at := d.Positions.At("")
		if prior, dup := first[id]; dup {
			errs = append(errs, &FieldError{Line: at.Line, Col: at.Col,
				Reason: fmt.Sprintf("%s %q is defined twice in this file (first in line %d)", d.Kind, d.Name, prior.Line)})
			continue
		}
		first[id] = at
	}
	return errs
}
