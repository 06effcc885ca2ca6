package containerd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"

	"ecsd/pkg/runtime"
)

// codeCannotPull is ECS's word for an image that cannot be had.
const codeCannotPull = "CannotPullContainerError"

// pullClass is what a failed pull means.
type pullClass int

const (
	pullRetry      pullClass = iota // the network's or the registry's trouble: it may pass
	pullNotFound                    // no such repository, tag or digest
	pullDenied                      // wrong credentials, or none
	pullPlatform                    // not for this kind of machine
	pullCorrupt                     // content that is not what its digest says, again and again
	pullUnreadable                  // not an image, or not one this program can read
)

// classify tells what a failed pull means. Pure.
func classify(err error) pullClass {
	var status remoteerrors.ErrUnexpectedStatus
	var platform *wrongPlatformError
	var stalled *stalledError
	var unreadable *unreadableImageError
	switch {
	case errors.As(err, &stalled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return pullRetry
	case errors.As(err, &platform), strings.Contains(err.Error(), "no match for platform"):
		return pullPlatform
	case errors.As(err, &unreadable), isMalformed(err):
		return pullUnreadable
	case isCorrupt(err):
		return pullCorrupt
	case errors.Is(err, docker.ErrInvalidAuthorization):
		return pullDenied
	case errors.As(err, &status):
		switch c := status.StatusCode; {
		case c == http.StatusUnauthorized, c == http.StatusForbidden:
			return pullDenied
		case c == http.StatusNotFound:
			return pullNotFound
		case c == http.StatusRequestTimeout, c == http.StatusTooEarly, c == http.StatusRequestedRangeNotSatisfiable, c == http.StatusTooManyRequests, c >= 500:
			return pullRetry
		case c >= 400:
			return pullUnreadable
		}
		return pullRetry
	case errdefs.IsNotFound(err):
		return pullNotFound
	case errdefs.IsNotImplemented(err), errdefs.IsInvalidArgument(err):
		return pullUnreadable
	}
	return pullRetry
}

// pullFault makes the error of Pull: a *runtime.TaskError in ECS's words for what is final.
func pullFault(ref string, err error) error {
	switch classify(err) {
	case pullNotFound:
		return runtime.NewTaskError(codeCannotPull, err, "image %s: not found: check its name and tag (%v)", ref, err)
	case pullDenied:
		return runtime.NewTaskError(codeCannotPull, err, "image %s: pull access denied: it does not exist, or needs other credentials (ECS_ENGINE_AUTH_DATA) (%v)", ref, err)
	case pullPlatform, pullUnreadable:
		if isMalformed(err) {
			return runtime.NewTaskError(codeCannotPull, err, "image %s: a layer of it cannot be unpacked: build the image anew (%v)", ref, err)
		}
		return runtime.NewTaskError(codeCannotPull, err, "image %s: %v", ref, err)
	case pullCorrupt:
		return runtime.NewTaskError(codeCannotPull, err, "image %s: the registry serves damaged content (%v)", ref, err)
	}
	return fmt.Errorf("pull %s: %w", ref, err)
}

// pullResult is the result label of ecsd_image_pulls_total.
func pullResult(err error) string {
	if err == nil {
		return "success"
	}
	var stalled *stalledError
	if errors.As(err, &stalled) {
		return "stalled"
	}
	switch classify(err) {
	case pullNotFound:
		return "not_found"
	case pullDenied:
		return "denied"
	case pullPlatform:
		return "platform"
	case pullCorrupt:
		return "corrupt"
	case pullUnreadable:
		return "unreadable"
	}
	return "error"
}

// isCorrupt reports whether content was not what its digest or size says.
func isCorrupt(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "unexpected commit digest") || strings.Contains(text, "unexpected commit size")
}

// isMalformed reports whether a layer cannot be unpacked because of what is in it: links
// that lead nowhere, names that are directories and files at once, damaged archives. What
// containerd says of its own disk (full, read-only, failing) is not among it: that may pass.
func isMalformed(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	if !strings.Contains(text, "failed to extract layer") && !strings.Contains(text, "apply layer error") {
		return false
	}
	for _, fault := range []string{
		"no such file or directory", "not a directory", "is a directory", "file exists", "directory not empty", "invalid argument",
		"file name too long", "too many levels of symbolic links", "invalid cross-device link",
		"archive/tar:", "invalid archive", "unhandled tar header type", "breakout", "gzip:", "flate:", "unexpected EOF", "wrong diff id",
	} {
		if strings.Contains(text, fault) {
			return true
		}
	}
	return false
}

// isUnusable reports whether what a pull has fetched so far is of no use to the next try:
// it is damaged, or the registry cannot go on from there.
func isUnusable(err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	return isCorrupt(err) || errors.As(err, &status) && status.StatusCode == http.StatusRequestedRangeNotSatisfiable
}

// unreadableImageError says that something is not an image this program can run.
type unreadableImageError struct{ err error }

func (e *unreadableImageError) Error() string { return e.err.Error() }
func (e *unreadableImageError) Unwrap() error { return e.err }
