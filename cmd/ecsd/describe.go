package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
	"ecsd/pkg/spec"
)

func newDescribeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe TASK|SERVICE",
		Short: "Show all that is known of a task or service, and why it is so",
		Long: `Show all that is known of a task or service: what is wanted, what is, what it waits
for, how it ended, when the next try is, and its latest events.

A task is named by its id or the beginning of it. Of a service the description lists
its tasks and the last few that have stopped; with --all it describes each of them
too. Values of environment variables are not shown.`,
		GroupID: groupLook,
		Args:    cobra.ExactArgs(1),
	}
	client := socketFlag(cmd)
	cmd.ValidArgsFunction = completeTargets(client, true, kindService, kindTask)
	out := outputFlag(cmd, formTable, formJSON, formYAML)
	var all bool
	cmd.Flags().BoolVarP(&all, "all", "a", false, "of a service, describe each of its tasks too, stopped ones as well")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := client()
		defer c.Close()
		n, err := look(cmd.Context(), c)
		if err != nil {
			return err
		}
		t, err := n.find(args[0], kindService, kindTask)
		if err != nil {
			return err
		}
		now := time.Now()
		if t.kind == kindTask {
			d, err := c.Task(cmd.Context(), t.name)
			if err != nil {
				return err
			}
			if out.value != formTable {
				return printValue(cmd.OutOrStdout(), out.value, d)
			}
			return describeTask(cmd.OutOrStdout(), d, now)
		}
		var events []spec.Event
		for e, err := range c.Events(cmd.Context(), localapi.EventFilter{Object: "service/" + t.name}) {
			if err != nil {
				return err
			}
			events = append(events, e)
		}
		if out.value != formTable {
			return printValue(cmd.OutOrStdout(), out.value, map[string]any{"service": t.service, "tasks": t.tasks, "events": events})
		}
		if err := describeService(cmd.OutOrStdout(), t, events, now); err != nil || !all {
			return err
		}
		for _, x := range t.tasks {
			d, err := c.Task(cmd.Context(), x.TaskID)
			if localapi.CodeOf(err) == localapi.CodeNotFound {
				continue // forgotten meanwhile
			}
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout()); err != nil {
				return err
			}
			if err := describeTask(cmd.OutOrStdout(), d, now); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// page is a text of "Name: value" lines in sections.
type page struct {
	b strings.Builder
}

// line writes a line, unless the value is empty.
func (p *page) line(indent int, name, value string) {
	if value != "" {
		fmt.Fprintf(&p.b, "%s%-*s %s\n", strings.Repeat("  ", indent), 20-2*indent, name+":", clean(value))
	}
}

func (p *page) section(name string) { p.b.WriteString(name + ":\n") }

func (p *page) table(t *table) { _ = t.print(&p.b, "  ") } // a Builder does not fail

func (p *page) printTo(w io.Writer) error {
	_, err := io.WriteString(w, p.b.String())
	return err
}

// when is a moment with how long ago it was.
func when(now time.Time, t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339) + " (" + age(now.Sub(*t)) + " ago)"
}

func describeTask(w io.Writer, d localapi.TaskDetail, now time.Time) error {
	t := d.Task
	var p page
	p.line(0, "Task", t.TaskID)
	p.line(0, "ARN", t.TaskARN)
	p.line(0, "Definition", definition(t.Family, t.Revision))
	if t.Service != "" {
		p.line(0, "Service", t.Service+" (slot "+strconv.Itoa(t.Slot)+")")
	}
	p.line(0, "Source", t.Source)
	p.line(0, "Status", t.LastStatus+" (desired "+t.DesiredStatus+")")
	p.line(0, "Health", t.HealthStatus)
	p.line(0, "Waiting", t.Waiting)
	if d.Failures > 0 {
		p.line(0, "Failed tries", strconv.Itoa(d.Failures)+" in a row"+nextTry(now, d.RetryAt))
	}
	p.line(0, "CPU", t.CPU)
	p.line(0, "Memory", t.Memory)
	p.line(0, "Created", when(now, t.CreatedAt))
	p.line(0, "Started", when(now, t.StartedAt))
	p.line(0, "Stopping since", when(now, t.StoppingAt))
	p.line(0, "Stopped", when(now, t.StoppedAt))
	p.line(0, "Stop code", t.StopCode)
	p.line(0, "Stopped reason", t.StoppedReason)
	p.section("Containers")
	for _, c := range t.Containers {
		describeContainer(&p, d, c, now)
	}
	if len(t.NotCarriedOut) > 0 {
		p.section("Not carried out")
		for _, n := range t.NotCarriedOut {
			p.b.WriteString("  " + clean(n) + "\n")
		}
	}
	p.events(d.Events, now)
	return p.printTo(w)
}

func nextTry(now time.Time, at *time.Time) string {
	if at == nil {
		return ""
	}
	return ", next in " + age(max(0, at.Sub(now).Round(time.Second)))
}

func describeContainer(p *page, d localapi.TaskDetail, c spec.ContainerStatus, now time.Time) {
	name := clean(c.Name)
	if c.Essential {
		name += " (essential)"
	}
	p.b.WriteString("  " + name + "\n")
	p.line(2, "Image", c.Image)
	p.line(2, "Digest", c.ImageDigest)
	p.line(2, "Status", c.LastStatus)
	p.line(2, "Reason", c.Reason)
	if c.ExitCode != nil {
		p.line(2, "Exit code", strconv.Itoa(*c.ExitCode))
	} else if c.FinishedAt != nil {
		p.line(2, "Exit code", "unknown: nobody saw it end")
	}
	if c.RestartCount > 0 {
		p.line(2, "Restarts", strconv.Itoa(c.RestartCount))
	}
	if c.PID > 0 {
		p.line(2, "PID", strconv.Itoa(c.PID))
	}
	p.line(2, "Started", when(now, c.StartedAt))
	p.line(2, "Finished", when(now, c.FinishedAt))
	if pull, ok := d.Pulls[c.Name]; ok {
		switch {
		case pull.Error != "":
			p.line(2, "Pull", pull.Error)
		case pull.StoppedAt == nil:
			p.line(2, "Pull", "running for "+age(now.Sub(pull.StartedAt)))
		}
	}
	if h, ok := d.HealthChecks[c.Name]; ok {
		text := h.Status
		if h.Since != nil {
			text += " for " + age(now.Sub(*h.Since))
		}
		if h.Status == spec.HealthUnhealthy {
			text += ", exit code " + strconv.Itoa(h.ExitCode)
		}
		p.line(2, "Health check", text)
		p.line(2, "Check output", strings.TrimSpace(h.Output))
	} else if c.HealthStatus != "" && c.HealthStatus != spec.HealthUnknown {
		p.line(2, "Health check", c.HealthStatus)
	}
	one := spec.TaskStatus{Containers: []spec.ContainerStatus{c}}
	p.line(2, "Ports", ports(one, true))
	p.line(2, "Addresses", addresses(one))
	if d.TaskDefinition == nil {
		return
	}
	for _, cd := range d.TaskDefinition.ContainerDefinitions {
		if cd.Name == c.Name {
			p.line(2, "Entry point", strings.Join(cd.EntryPoint, " "))
			p.line(2, "Command", strings.Join(cd.Command, " "))
			p.line(2, "Environment", environmentNames(cd))
			p.line(2, "Depends on", dependencies(cd))
		}
	}
}

func environmentNames(c spec.ContainerDefinition) string {
	var names []string
	for _, e := range c.Environment {
		names = append(names, e.Name)
	}
	for _, s := range c.Secrets {
		names = append(names, s.Name+" (secret)")
	}
	return strings.Join(names, ", ")
}

func dependencies(c spec.ContainerDefinition) string {
	var out []string
	for _, d := range c.DependsOn {
		out = append(out, d.ContainerName+" "+d.Condition)
	}
	return strings.Join(out, ", ")
}

func (p *page) events(events []spec.Event, now time.Time) {
	if len(events) == 0 {
		return
	}
	p.section("Events")
	t := newTable("AGE", "TYPE", "REASON", "MESSAGE")
	for _, e := range events {
		msg := e.Message
		if e.Count > 1 {
			msg += " (" + strconv.Itoa(e.Count) + " times)"
		}
		t.add(age(now.Sub(e.Time)), e.Type, e.Reason, msg)
	}
	p.table(t)
}

// maxStopped bounds the stopped tasks that a service's description lists.
const maxStopped = 5

func describeService(w io.Writer, t target, events []spec.Event, now time.Time) error {
	s := t.service
	var p page
	p.line(0, "Service", s.ServiceName)
	p.line(0, "Status", s.Status)
	p.line(0, "Tasks", fmt.Sprintf("%d desired, %d running, %d pending", s.DesiredCount, s.RunningCount, s.PendingCount))
	p.line(0, "Waiting", s.Waiting)
	p.line(0, "Definition", definitionName(s.TaskDefinition))
	p.line(0, "Strategy", s.SchedulingStrategy)
	p.line(0, "Percentages", percentages(s.DeploymentConfiguration))
	p.line(0, "Manifest", s.File)
	p.line(0, "Created", when(now, &s.CreatedAt))
	if len(s.Deployments) > 0 {
		p.section("Deployments")
		dt := newTable("ID", "STATUS", "DEFINITION", "DESIRED", "RUNNING", "PENDING", "FAILED", "ROLLOUT", "AGE", "REASON")
		for _, d := range s.Deployments {
			dt.add(d.ID, d.Status, definitionName(d.TaskDefinition), strconv.Itoa(d.DesiredCount), strconv.Itoa(d.RunningCount), strconv.Itoa(d.PendingCount),
				strconv.Itoa(d.FailedTasks), d.RolloutState, age(now.Sub(d.CreatedAt)), d.RolloutStateReason)
		}
		p.table(dt)
	}
	if tasks := recent(t.tasks); len(tasks) > 0 {
		p.section("Tasks")
		tt := newTable("TASK", "SLOT", "DEFINITION", "STATUS", "HEALTH", "AGE", "PORTS", "REASON")
		for _, x := range tasks {
			tt.add(shortID(x.TaskID), strconv.Itoa(x.Slot), definition(x.Family, x.Revision), x.LastStatus, x.HealthStatus, since(now, x.CreatedAt), ports(x, false), reason(x))
		}
		p.table(tt)
	}
	for _, e := range slices.Backward(s.Events) { // ECS has the newest first
		events = append(events, spec.Event{Time: e.CreatedAt, Type: spec.EventNormal, Reason: "Service", Message: e.Message})
	}
	slices.SortStableFunc(events, func(a, b spec.Event) int { return a.Time.Compare(b.Time) })
	p.events(once(events), now)
	return p.printTo(w)
}

// once leaves out what is said twice: a service's own journal and the agent's ring tell of
// the same things.
func once(events []spec.Event) []spec.Event {
	seen := map[string]bool{}
	return slices.DeleteFunc(events, func(e spec.Event) bool {
		key := e.Message + "\x00" + strconv.FormatInt(e.Time.Unix(), 10)
		defer func() { seen[key] = true }()
		return seen[key]
	})
}

func percentages(c *spec.DeploymentConfiguration) string {
	if c == nil || c.MinimumHealthyPercent == nil || c.MaximumPercent == nil {
		return ""
	}
	return fmt.Sprintf("%d minimum healthy, %d maximum", *c.MinimumHealthyPercent, *c.MaximumPercent)
}

// recent are the live tasks and the last few that have stopped, the newest last.
func recent(tasks []spec.TaskStatus) []spec.TaskStatus {
	t := target{tasks: tasks}
	out := t.live()
	stopped := slices.DeleteFunc(slices.Clone(tasks), func(x spec.TaskStatus) bool { return x.LastStatus != spec.StatusStopped })
	slices.SortFunc(stopped, byCreation)
	out = append(out, stopped[max(0, len(stopped)-maxStopped):]...)
	slices.SortFunc(out, byCreation)
	return out
}

func byCreation(a, b spec.TaskStatus) int {
	var at, bt time.Time
	if a.CreatedAt != nil {
		at = *a.CreatedAt
	}
	if b.CreatedAt != nil {
		bt = *b.CreatedAt
	}
	return cmp.Or(at.Compare(bt), strings.Compare(a.TaskID, b.TaskID))
}
