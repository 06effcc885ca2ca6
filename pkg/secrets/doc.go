// Package secrets turns references to secrets into their values, at the moment they are
// needed and for whoever needs them. Values never go into logs, errors, metrics or
// files: the types that hold them print as [redacted] whatever way they are printed.
//
// Today it knows one kind: what registries ask for when an image is pulled ([Registry]).
package secrets
