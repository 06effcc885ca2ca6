package localapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/containerd/errdefs"
)

// Codes of an Error.
const (
	CodeInvalid     = "InvalidParameter" // the request itself is wrong
	CodeAmbiguous   = "Ambiguous"        // an id prefix that several tasks begin with
	CodeNotFound    = "NotFound"
	CodeDenied      = "AccessDenied"
	CodeConflict    = "Conflict"    // not possible in the present state
	CodeUnavailable = "Unavailable" // the agent cannot be reached, or cannot answer now
	CodeTimeout     = "Timeout"
	CodeInternal    = "Internal"
)

var statusOf = map[string]int{
	CodeInvalid:     http.StatusBadRequest,
	CodeAmbiguous:   http.StatusBadRequest,
	CodeNotFound:    http.StatusNotFound,
	CodeDenied:      http.StatusForbidden,
	CodeConflict:    http.StatusConflict,
	CodeUnavailable: http.StatusServiceUnavailable,
	CodeTimeout:     http.StatusGatewayTimeout,
	CodeInternal:    http.StatusInternalServerError,
}

// Error is a failure as it crosses the socket. Message is a sentence for people: what is
// wrong with which object, and what to do.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// CodeOf is the code of an error: that of an *Error, of errdefs' classes, of an ended
// context, else CodeInternal; "" for nil.
func CodeOf(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	switch {
	case errdefs.IsNotFound(err):
		return CodeNotFound
	case errdefs.IsInvalidArgument(err):
		return CodeInvalid
	case errdefs.IsConflict(err), errdefs.IsFailedPrecondition(err), errdefs.IsAlreadyExists(err):
		return CodeConflict
	case errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err):
		return CodeDenied
	case errdefs.IsUnavailable(err):
		return CodeUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		return CodeTimeout
	}
	return CodeInternal
}

// asError is err as it crosses the socket.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeOf(err), Message: err.Error()}
}
