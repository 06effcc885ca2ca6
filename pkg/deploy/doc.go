// Package deploy decides what a service does next: which tasks to start, which to stop,
// and when. It is pure: [Plan] is a function of a service, what is remembered of its
// deployments, its tasks and the moment, so that one node and a whole cluster can use the
// same one. Who calls it fetches the arguments and carries out the answer.
//
// A service has deployments, the newest first; the first is the primary, what the service
// is to become. A deployment goes
//
//	            every task healthy, older tasks gone
//	IN_PROGRESS ────────────────────────────────────► COMPLETED
//	   │    ▲                                             │
//	   │    └──── a newer one's breaker tripped: back ────┤
//	   │ breaker trips                                    │ a newer deployment's
//	   ▼                                                  ▼ tasks took over
//	 FAILED ────────── its tasks are gone ───────────► dropped
//
// but the newest one that ever completed is kept, even without tasks, as long as the
// primary has not completed: it is what a rollback goes back to.
//
// A task goes
//
//	Unseen ─► Pending ─► Running ─┬─► (leaves the steady port) ─► asked to stop ─► Stopping ─► Stopped
//	                              └─► ends by itself: a failure, counted once ───────►─┘
//
// Four rules make the decisions. A service never has more than [Service.Upper] tasks by
// what Plan starts, nor fewer than [Service.Lower] healthy ones by what Plan stops. An
// old task is stopped when a new one is healthy, or when a new one cannot start because
// the old one holds what it needs; not earlier. The first failure is replaced at once,
// repeated ones after a growing pause. A service that cannot move says why.
package deploy
