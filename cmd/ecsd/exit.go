package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
)

// Exit codes, for scripts. Where kubectl or docker have one for the same thing it is theirs.
const (
	exitOK          = 0
	exitFailure     = 1 // also: a difference, a condition that is false
	exitUsage       = 2
	exitInvalid     = 3
	exitNotFound    = 4
	exitUnreachable = 5
	exitDenied      = 6
	exitConflict    = 7
	exitTimeout     = 124
	exitInterrupted = 130
)

// exitError is an error with an exit code of its own. With an empty text nothing is
// printed: the command has said it all.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// usagef is an error about how a command was called.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &exitError{exitUsage, fmt.Sprintf(format, args...) + ": see " + cmd.CommandPath() + " --help"}
}

// exitCode is what the process ends with after err.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	switch localapi.CodeOf(err) {
	case localapi.CodeInvalid, localapi.CodeAmbiguous:
		return exitUsage
	case localapi.CodeNotFound:
		return exitNotFound
	case localapi.CodeUnavailable:
		return exitUnreachable
	case localapi.CodeDenied:
		return exitDenied
	case localapi.CodeConflict:
		return exitConflict
	case localapi.CodeTimeout:
		return exitTimeout
	}
	return exitFailure
}

// message is what is printed about err; "" prints nothing, as for an interrupt.
func message(err error) string {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return ""
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	}
	return cleanLines(err.Error())
}
