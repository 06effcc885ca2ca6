package main

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"ecsd/pkg/localapi"
	"ecsd/pkg/spec"
)

func newEventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [TASK|SERVICE]",
		Short: "Show what happened, and with -w what happens",
		Long: `Show what the agent remembers of what happened to tasks, services and manifests,
oldest first. With -w it goes on until it is interrupted. JSON is one event a line.`,
		GroupID: groupLook,
		Args:    cobra.MaximumNArgs(1),
	}
	client := socketFlag(cmd)
	cmd.ValidArgsFunction = completeTargets(client, true, kindTask, kindService)
	out := outputFlag(cmd, formTable, formJSON)
	var watch bool
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with what happens")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := client()
		defer c.Close()
		f := localapi.EventFilter{Watch: watch}
		if len(args) == 1 {
			n, err := look(cmd.Context(), c)
			if err != nil {
				return err
			}
			t, err := n.find(args[0], kindTask, kindService)
			if err != nil {
				return err
			}
			f.Object = t.kind + "/" + t.name
		}
		enc := json.NewEncoder(cmd.OutOrStdout())
		for e, err := range c.Events(cmd.Context(), f) {
			if err != nil {
				return err
			}
			if out.value == formJSON {
				err = enc.Encode(e)
			} else {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), eventLine(e))
			}
			if err != nil {
				return err
			}
		}
		return cmd.Context().Err()
	}
	return cmd
}

// eventLine is an event on one line; the columns are of fixed width, because what comes
// next is not known.
func eventLine(e spec.Event) string {
	object := e.Object
	if len(object) == len("task/")+32 && object[:5] == "task/" {
		object = object[:5+12]
	}
	line := fmt.Sprintf("%s  %-7s  %-17s  %-20s  %s", e.Time.Local().Format("2006-01-02T15:04:05Z07:00"), clean(e.Type), clean(object), clean(e.Reason), clean(e.Message))
	if e.Count > 1 {
		line += " (" + strconv.Itoa(e.Count) + " times)"
	}
	return line
}
