package main

import (
	"context"
	"slices"
	"strings"

	"ecsd/pkg/localapi"
	"ecsd/pkg/spec"
)

// target is what an argument names: one task, or a service or family with its tasks.
type target struct {
	kind    string // "task", "service" or "family"
	name    string // id of the task, name of the service or family
	tasks   []spec.TaskStatus
	service *spec.ServiceStatus // of kind service
}

const (
	kindTask    = "task"
	kindService = "service"
	kindFamily  = "family"
)

// node is what targets are found in.
type node struct {
	tasks    []spec.TaskStatus // stopped ones too
	services []spec.ServiceStatus
}

// look reads what there is on the agent's machine.
func look(ctx context.Context, c *localapi.Client) (node, error) {
	tasks, err := c.Tasks(ctx, localapi.TaskFilter{Stopped: true})
	if err != nil {
		return node{}, err
	}
	services, err := c.Services(ctx)
	return node{tasks, services}, err
}

// find resolves an argument. It may say its kind ("task/ID", "service/NAME",
// "family/NAME") or be an ARN. Without a kind the whole name of a service comes first,
// then the id of a task or the beginning of it, then the name of a family. kinds are those
// that the command takes.
func (n node) find(arg string, kinds ...string) (target, error) {
	name, only := arg, ""
	if kind, rest, ok := strings.Cut(arg, "/"); ok && slices.Contains(kinds, kind) {
		only, name = kind, rest
	}
	if strings.HasPrefix(arg, "arn:") {
		for _, kind := range kinds {
			if strings.Contains(arg, ":"+kind+"/") {
				only, name = kind, arg[strings.LastIndexByte(arg, '/')+1:]
			}
		}
	}
	allowed := func(kind string) bool { return slices.Contains(kinds, kind) && (only == "" || only == kind) }

	if allowed(kindService) {
		for _, s := range n.services {
			if s.ServiceName == name {
				return target{kindService, name, n.matching(func(t spec.TaskStatus) bool { return t.Service == name }), &s}, nil
			}
		}
	}
	var ambiguous error
	if allowed(kindTask) {
		ids := make([]string, len(n.tasks))
		for i, t := range n.tasks {
			ids[i] = t.TaskID
		}
		id, err := localapi.Resolve(name, ids)
		if err == nil {
			return target{kind: kindTask, name: id, tasks: n.matching(func(t spec.TaskStatus) bool { return t.TaskID == id })}, nil
		}
		if localapi.CodeOf(err) == localapi.CodeAmbiguous {
			ambiguous = err
		}
	}
	if allowed(kindFamily) {
		if tasks := n.matching(func(t spec.TaskStatus) bool { return t.Family == name }); len(tasks) > 0 {
			return target{kind: kindFamily, name: name, tasks: tasks}, nil
		}
	}
	if ambiguous != nil {
		return target{}, ambiguous
	}
	return target{}, &localapi.Error{Code: localapi.CodeNotFound, Message: "there is no " + strings.Join(kinds, " or ") + " " + quote(arg) + ": ecsd ps -a lists the tasks, ecsd status the manifests"}
}

func (n node) matching(f func(spec.TaskStatus) bool) []spec.TaskStatus {
	var out []spec.TaskStatus
	for _, t := range n.tasks {
		if f(t) {
			out = append(out, t)
		}
	}
	return out
}

// live are those tasks of the target that have not stopped.
func (t target) live() []spec.TaskStatus {
	var out []spec.TaskStatus
	for _, x := range t.tasks {
		if x.LastStatus != spec.StatusStopped {
			out = append(out, x)
		}
	}
	return out
}
