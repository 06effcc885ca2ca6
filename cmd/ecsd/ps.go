package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
	"ecsd/pkg/spec"
)

func newPsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ps",
		Aliases: []string{"tasks"},
		Short:   "List tasks",
		Long:    "List the tasks of this machine that have not stopped; with -a also those that have.",
		GroupID: groupLook,
		Args:    cobra.NoArgs,
	}
	client := socketFlag(cmd)
	out := outputFlag(cmd, formTable, formWide, formJSON, formYAML, formName)
	var f localapi.TaskFilter
	cmd.Flags().BoolVarP(&f.Stopped, "all", "a", false, "stopped tasks too, as far as they are remembered")
	cmd.Flags().StringVar(&f.Service, "service", "", "only tasks of this service")
	cmd.Flags().StringVar(&f.Family, "family", "", "only tasks of this family")
	_ = cmd.RegisterFlagCompletionFunc("service", completeTargets(client, false, kindService))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c := client()
		defer c.Close()
		tasks, err := c.Tasks(cmd.Context(), f)
		if err != nil {
			return err
		}
		return printTasks(cmd.OutOrStdout(), out.value, tasks, time.Now())
	}
	return cmd
}

// printTasks prints tasks in any of the forms of ps.
func printTasks(w io.Writer, form string, tasks []spec.TaskStatus, now time.Time) error {
	switch form {
	case formJSON, formYAML:
		if tasks == nil {
			tasks = []spec.TaskStatus{} // an empty list, not null
		}
		return printValue(w, form, tasks)
	case formName:
		for _, t := range tasks {
			if _, err := fmt.Fprintln(w, "task/"+clean(t.TaskID)); err != nil {
				return err
			}
		}
		return nil
	case formWide:
		return wideTaskTable(tasks, now).print(w, "")
	}
	return taskTable(tasks, now).print(w, "")
}

func taskTable(tasks []spec.TaskStatus, now time.Time) *table {
	t := newTable("TASK", "FAMILY:REV", "SERVICE", "STATUS", "HEALTH", "AGE", "PORTS")
	for _, x := range tasks {
		t.add(shortID(x.TaskID), definition(x.Family, x.Revision), x.Service, x.LastStatus, x.HealthStatus, since(now, x.CreatedAt), ports(x, false))
	}
	return t
}

func wideTaskTable(tasks []spec.TaskStatus, now time.Time) *table {
	t := newTable("TASK", "FAMILY:REV", "SERVICE", "STATUS", "DESIRED", "HEALTH", "CONTAINERS", "RESTARTS", "AGE", "ADDRESS", "PORTS", "REASON")
	for _, x := range tasks {
		running, restarts := 0, 0
		for _, c := range x.Containers {
			restarts += c.RestartCount
			if c.LastStatus == spec.StatusRunning {
				running++
			}
		}
		t.add(x.TaskID, definition(x.Family, x.Revision), x.Service, x.LastStatus, x.DesiredStatus, x.HealthStatus,
			fmt.Sprintf("%d/%d", running, len(x.Containers)), strconv.Itoa(restarts), since(now, x.CreatedAt),
			addresses(x), ports(x, true), strings.TrimSpace(reason(x)))
	}
	return t
}
