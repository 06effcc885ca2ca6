// Command ecsd runs Amazon ECS task definitions on containerd: its agent converges a
// directory of manifests, and its other commands look at what an agent does, act on it, or
// check manifests without one.
//
// Each command is a file. What they share: exit codes (exit.go), forms of output
// (output.go), names of tasks and services (target.go).
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program, with its exit code as the result. The first SIGINT or SIGTERM
// ends the command's context, a second one the process.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if msg := message(err); msg != "" {
		fmt.Fprintln(stderr, "ecsd: "+msg)
	}
	return exitCode(err)
}
