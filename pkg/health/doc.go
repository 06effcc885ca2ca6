// Package health runs the health checks of containers and keeps the verdicts.
//
// A verdict is of one run of a container, and goes as on ECS:
//
//	               success
//	  ┌──────────────────────────────► HEALTHY ──┐
//	  │                                   ▲      │ retries failures in a row
//	UNKNOWN                       success │      │
//	  │                                   │      ▼
//	  └──────────────────────────────► UNHEALTHY
//	    retries failures in a row
//
// A failure counts when the start period is over, or a check has succeeded before.
// Another run of the container begins at UNKNOWN again.
//
// The decision is [Next], a function of values; [Delay] says when to look again; and the
// [Prober] carries out both: it is told what lives by Observe, and runs commands in
// containers through the runtime.
//
// ECS, like Docker, makes the first check one interval (30 s, if not said) after the
// start. Here the first comes after a second, and until there is a verdict the pauses
// double up to the interval, because during a roll the next task waits for this one's
// verdict and nothing else should make a roll slow. Those early checks can only bring
// good news: their failures do not count, so a container has the same time to come up as
// on ECS before it is called UNHEALTHY.
//
// The HEALTHCHECK of an image is ignored, as on ECS: only the task definition counts.
package health
