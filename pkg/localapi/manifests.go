package localapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// Statuses of a manifest file.
const (
	FileAccepted  = "accepted"
	FileInvalid   = "invalid"   // refused; its last good content, if any, is kept
	FileDuplicate = "duplicate" // refused: another file defines the same
	FileIgnored   = "ignored"   // not a manifest
)

// ManifestFile is one entry of the manifest directory and what became of it.
type ManifestFile struct {
	Path      string   `json:"path"`
	Status    string   `json:"status"`
	Documents []string `json:"documents,omitempty"` // what it defines: "TaskDefinition web", …
	Reasons   []string `json:"reasons,omitempty"`   // why it is not accepted, each with its place in the file
	Warnings  []string `json:"warnings,omitempty"`  // accepted, but: members without effect, …
	KeptGood  bool     `json:"keptLastGood,omitempty"`
}

type listManifestsAnswer struct {
	Manifests []ManifestFile `json:"manifests"`
}

var listManifestsOperation = operation{"GET /v1/manifests", "list manifest files", false, answer(func(s *Server, _ *http.Request) (any, error) {
	out := []ManifestFile{}
	if s.c.Files != nil {
		out = append(out, s.c.Files()...)
	}
	slices.SortFunc(out, func(a, b ManifestFile) int { return strings.Compare(a.Path, b.Path) })
	return listManifestsAnswer{out}, nil
})}

// Manifests lists every file of the manifest directory, ordered by path.
func (c *Client) Manifests(ctx context.Context) ([]ManifestFile, error) {
	var a listManifestsAnswer
	return a.Manifests, c.get(ctx, "/v1/manifests", nil, &a)
}
