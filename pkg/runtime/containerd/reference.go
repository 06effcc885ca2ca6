package containerd

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"ecsd/pkg/runtime"
)

// archiveScheme begins references to images in files.
const archiveScheme = "oci-archive:"

// imageRef is an image reference, read.
type imageRef struct {
	name     string        // under which containerd knows the image: the complete reference
	registry string        // host, as in the reference; "" for an archive
	archive  string        // path; "" for a registry's
	digest   digest.Digest // when the reference pins one
	untagged string        // name without the digest, when it has a tag or is an archive
}

// parseRef reads a reference. Short names mean docker.io, and no tag means latest, as in
// Docker. An archive may be pinned like any other image: oci-archive:/path.tar@sha256:….
func parseRef(ref string) (imageRef, error) {
	if path, ok := strings.CutPrefix(ref, archiveScheme); ok {
		r := imageRef{}
		if before, after, ok := strings.Cut(path, "@sha256:"); ok {
			path, r.digest = before, digest.Digest("sha256:"+after)
			if err := r.digest.Validate(); err != nil {
				return r, fmt.Errorf("image reference %q: %w", ref, err)
			}
		}
		if !filepath.IsAbs(path) {
			return r, fmt.Errorf("image reference %q: the path after %s must be absolute", ref, archiveScheme)
		}
		r.archive = filepath.Clean(path)
		r.untagged = archiveScheme + r.archive
		r.name = r.untagged
		if r.digest != "" {
			r.name += "@" + r.digest.String()
		}
		return r, nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return imageRef{}, fmt.Errorf("image reference %q: %w", ref, err)
	}
	named = reference.TagNameOnly(named)
	r := imageRef{name: named.String(), registry: reference.Domain(named)}
	if d, ok := named.(reference.Digested); ok {
		r.digest = d.Digest()
		if t, ok := named.(reference.Tagged); ok {
			r.untagged = named.Name() + ":" + t.Tag()
		}
	}
	return r, nil
}

// imageName is the name under which containerd knows an image; a reference that cannot be
// read is no image's.
func imageName(ref string) string {
	r, err := parseRef(ref)
	if err != nil {
		return ref
	}
	return r.name
}

func digestOf(s string) digest.Digest { return digest.Digest(s) }

// invalidRef is the error for a reference that cannot be read: the definition's fault.
func invalidRef(err error) error {
	return runtime.NewTaskError(codeCannotPull, err, "%v", err)
}
