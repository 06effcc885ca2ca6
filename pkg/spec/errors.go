package spec

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// FieldError is one thing that is wrong with one field of a document. It prints as
//
//	file:line:col: field: reason
//
// without the parts that are not known: an error found in a value that came from no file
// has neither file nor line.
type FieldError struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"` // from 1; 0: not known
	Col    int    `json:"col,omitempty"`  // from 1, in characters
	Path   string `json:"path,omitempty"` // of the field in the ECS object: containerDefinitions[0].image; "" for the document
	Reason string `json:"reason"`         // what is wrong, and what to do about it

	// meant is the path of the field that an unknown one was probably meant to be: that
	// one is not called missing as well.
	meant string
}

// Error prints the error as the type's comment says.
func (e *FieldError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(printableName(e.File))
		b.WriteByte(':')
	}
	if e.Line > 0 {
		b.WriteString(strconv.Itoa(e.Line))
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(max(e.Col, 1)))
		b.WriteByte(':')
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	b.WriteString(e.Reason)
	return b.String()
}

// Errors is every error of a file or of a definition, in the order of the file. As an
// error it prints one a line. A nil or empty Errors means that all is well: hand it on
// with Err, which then returns a nil error.
type Errors []*FieldError

// Error prints all errors, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors to errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, f := range e {
		all[i] = f
	}
	return all
}

// Err is e as an error, nil when there is none in it.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// sorted puts errors in the order of the file and drops exact repeats.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b *FieldError) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return slices.CompactFunc(e, func(a, b *FieldError) bool { return *a == *b })
}

// printableName quotes a file name that would disturb the line it is printed on.
func printableName(s string) string {
	if q := strconv.Quote(s); len(q) != len(s)+2 {
		return q
	}
	return s
}
