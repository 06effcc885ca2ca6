// Package service keeps the services of one node: it is the loop around deploy.Plan, and
// the Source that gives the reconciler their tasks, and one-off tasks too.
//
//	 manifests                        statuses
//	    │ Set                            │ Report
//	    ▼                                ▼
//	┌──────────────────── Services.Run, one goroutine ────────────────────┐
//	│  take what is new ─► deploy.Plan for each service it concerns       │
//	│        1. steady ports lead to the tasks that are to serve          │
//	│        2. task.json of tasks to start and to stop ┐ side by side    │
//	│        3. services/<name>.json                    ┘                 │
//	│        4. set(all tasks) ──────────────────────────────────────────►│─► reconciler
//	│  sleep until something is new, or a Plan's After is over            │
//	└─────────────────────────────────────────────────────────────────────┘
//
// What is remembered, and where: that a task exists, and what it is, is its task.json;
// that it has ended is its end.json (both written through Records). A service's record
// holds its deployments with their definitions, the failures counted, its events, and of
// each task what a status does not say. A task belongs to the deployment that its
// StartedBy names, so a record that was lost, or was not written before a crash, is made
// again from the tasks: it loses history, never a running task, and no crash doubles one.
//
// A task is made once. It gets a random id and the smallest slot that is free in its
// family, its task.json is written, and only then is it handed to the reconciler. It
// stays in the set, with DesiredStatus STOPPED once it is to go, until it is STOPPED.
package service
