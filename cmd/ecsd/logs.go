package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
	"ecsd/pkg/spec"
)

// logsFlags are the flags of `ecsd logs`.
type logsFlags struct {
	follow     bool
	tail       string
	since      string
	timestamps bool
}

func newLogsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logs [-f] [--tail N] [--since T] [--timestamps] TASK|SERVICE|FAMILY[/CONTAINER]",
		Short: "Print what containers wrote",
		Long: `Print what the containers of a task, or of all tasks of a service or family, wrote:
standard output to standard output, standard error to standard error. With several
containers each line begins with where it is from.

Of a service or family the logs are those of its running tasks; when none runs, that
of the task that stopped last. With -f new lines follow as they come, across
rotations, of a service also those of the tasks that replace others; of one task
until it has stopped.

On a terminal, control characters are shown as escapes.`,
		GroupID: groupLook,
		Args:    cobra.ExactArgs(1),
	}
	client := socketFlag(cmd)
	cmd.ValidArgsFunction = completeTargets(client, true, kindService, kindTask)
	var f logsFlags
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with new lines")
	cmd.Flags().StringVar(&f.tail, "tail", "all", "only the last so many lines of each container, or all")
	cmd.Flags().StringVar(&f.since, "since", "", "only lines since this time (RFC 3339) or of the last so long (10m)")
	cmd.Flags().BoolVarP(&f.timestamps, "timestamps", "t", false, "begin each line with its time")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := f.options(cmd, time.Now())
		if err != nil {
			return err
		}
		c := client()
		defer c.Close()
		n, err := look(cmd.Context(), c)
		if err != nil {
			return err
		}
		t, container, err := logTarget(n, args[0])
		if err != nil {
			return err
		}
		streams, err := pick(t, container)
		if err != nil {
			return err
		}
		out := newLogPrinter(cmd.OutOrStdout(), cmd.ErrOrStderr(), f.timestamps, prefixed(t, container, streams, f.follow))
		if !f.follow {
			return printLogs(cmd.Context(), c, out, streams, o)
		}
		fo := &follower{client: c, out: out, o: o, errOut: cmd.ErrOrStderr()}
		if t.kind == kindTask {
			return fo.followAll(cmd.Context(), streams, nil)
		}
		return fo.followAll(cmd.Context(), streams, func(n node) []stream { return matchingStreams(n, t, container) })
	}
	return cmd
}

// options reads the flags. A duration means so long before now.
func (f *logsFlags) options(cmd *cobra.Command, now time.Time) (localapi.LogOptions, error) {
	o := localapi.LogOptions{Follow: f.follow, Tail: -1}
	if f.tail != "all" {
		n, err := strconv.Atoi(f.tail)
		if err != nil || n < 0 && n != -1 {
			return o, usagef(cmd, "--tail %s: must be a number of lines, or all", quote(f.tail))
		}
		o.Tail = n
	}
	if f.since == "" {
		return o, nil
	}
	if d, err := time.ParseDuration(f.since); err == nil {
		if d < 0 {
			return o, usagef(cmd, "--since %s: must not be negative", quote(f.since))
		}
		o.Since = now.Add(-d)
		return o, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, f.since, time.Local); err == nil {
			o.Since = t
			return o, nil
		}
	}
	return o, usagef(cmd, "--since %s: must be a time like 2026-11-22T10:00:00Z, or a duration like 10m", quote(f.since))
}

// logTarget splits the argument into what it names and a container. What follows the last
// slash is a container when the rest names something; a whole that names something has none.
func logTarget(n node, arg string) (t target, container string, err error) {
	kinds := []string{kindService, kindTask, kindFamily}
	t, err = n.find(arg, kinds...)
	if err == nil {
		return t, "", nil
	}
	i := strings.LastIndexByte(arg, '/')
	if i <= 0 || i == len(arg)-1 {
		return t, "", err
	}
	if t, err2 := n.find(arg[:i], kinds...); err2 == nil {
		return t, arg[i+1:], nil
	}
	return t, "", err
}

// stream is the log of one container of one task.
type stream struct {
	task      spec.TaskStatus
	container string
}

func (s stream) key() string { return s.task.TaskID + "/" + s.container }

// pick chooses the logs to print: those of the tasks that have not stopped, else of the
// one that stopped last.
func pick(t target, container string) ([]stream, error) {
	tasks := t.live()
	if len(tasks) == 0 && len(t.tasks) > 0 {
		latest := t.tasks[0]
		for _, x := range t.tasks[1:] {
			if byCreation(x, latest) > 0 {
				latest = x
			}
		}
		tasks = []spec.TaskStatus{latest}
	}
	if len(tasks) == 0 {
		return nil, &localapi.Error{Code: localapi.CodeNotFound, Message: t.kind + " " + t.name + " has no task yet: ecsd describe " + t.name + " tells why"}
	}
	streams := streamsOf(tasks, container)
	if len(streams) == 0 {
		var have []string
		for _, s := range streamsOf(tasks[:1], "") {
			have = append(have, s.container)
		}
		return nil, &localapi.Error{Code: localapi.CodeNotFound, Message: t.kind + " " + shortID(t.name) + " has no container " + quote(container) + ": it has " + strings.Join(have, ", ")}
	}
	return streams, nil
}

func streamsOf(tasks []spec.TaskStatus, container string) []stream {
	var out []stream
	for _, x := range tasks {
		for _, c := range x.Containers {
			if container == "" || container == c.Name {
				out = append(out, stream{x, c.Name})
			}
		}
	}
	return out
}

// matchingStreams are the logs of the target's live tasks as they are now.
func matchingStreams(n node, t target, container string) []stream {
	now := target{tasks: n.matching(func(x spec.TaskStatus) bool {
		return t.kind == kindService && x.Service == t.name || t.kind == kindFamily && x.Family == t.name
	})}
	return streamsOf(now.live(), container)
}

// prefixed gives each stream the beginning of its lines: none for a single one, the
// container's name within one task, else the task too. What follows a service may meet
// further tasks, so its lines always say which.
func prefixed(t target, container string, streams []stream, follow bool) func(stream) string {
	tasks := map[string]bool{}
	for _, s := range streams {
		tasks[s.task.TaskID] = true
	}
	many := len(tasks) > 1 || follow && t.kind != kindTask
	return func(s stream) string {
		switch {
		case many:
			return s.task.TaskID[:min(8, len(s.task.TaskID))] + "/" + s.container
		case len(streams) > 1:
			return s.container
		}
		return ""
	}
}

// skippable reports whether one container's missing log should not keep the others from
// being printed: it has not started yet, or its files are gone.
func skippable(err error, streams int) bool {
	return streams > 1 && localapi.CodeOf(err) == localapi.CodeNotFound
}

// printLogs prints logs to their present end, in the order of their times.
func printLogs(ctx context.Context, c *localapi.Client, out *logPrinter, streams []stream, o localapi.LogOptions) error {
	m := &merge{}
	defer m.stop()
	for _, s := range streams {
		if err := m.add(s, c.Logs(ctx, s.task.TaskID, s.container, o)); err != nil && !skippable(err, len(streams)) {
			return err
		}
	}
	for {
		s, line, failure := m.next() // with a failure it may be the last line before it
		if errors.Is(failure, errMerged) {
			return ctx.Err()
		}
		if err := out.print(s, line); err != nil {
			return err
		}
		if failure != nil {
			return failure
		}
	}
}
