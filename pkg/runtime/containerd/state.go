package containerd

import (
	"ecsd/pkg/runtime"
)

// phase is what containerd says of a container's process.
type phase int

const (
	phaseNone    phase = iota // no task: never run, or forgotten
	phaseCreated              // the OCI runtime has made it, it does not run yet
	phaseRunning              // also: paused
	phaseStopped
)

// process is what containerd and the kernel say of a container's process now.
type process struct {
	phase    phase
	pid      int
	exit     runtime.Exit // when stopped; At may be zero
	oomKills int
	// started is when the kernel started the process, for a run whose start was not
	// written down yet.
	started runtime.Time
}

// observe joins what is written of a container with what is true of its process now. The
// result's Exit may be new: then record is true, and it has to be written down before
// containerd forgets it. Pure.
//
//	written            process     is
//	not started        none        created
//	not started        created     created (a crash came between create and start)
//	not started        running     live: its start is about to be written
//	not started        stopped     exited: the agent died before it wrote the start
//	started            running     live
//	started            stopped     exited, with its code
//	started            none        exited, code unknown: containerd lost it
//	started, old boot  any         exited, code unknown: the machine was restarted
//	exited             any         exited, as written
func observe(written runtime.Container, p process, now runtime.Time) (c runtime.Container, record bool) {
	c = written
	if c.Exited() {
		return c, false
	}
	if !c.Started.IsZero() && c.Started.Boot != now.Boot {
		c.Exit = &runtime.Exit{At: now}
		return c, true
	}
	switch p.phase {
	case phaseRunning:
		c.PID, c.OOMKills = p.pid, p.oomKills
		if c.Started.IsZero() {
			c.Started = firstOf(p.started, now)
		}
	case phaseStopped:
		exit := p.exit
		exit.At = firstOf(exit.At, now)
		if c.Started.IsZero() {
			c.Started = exit.At
		}
		c.Exit, c.OOMKills = &exit, p.oomKills
		return c, true
	default:
		if c.Started.IsZero() {
			return c, false
		}
		c.Exit = &runtime.Exit{At: now}
		return c, true
	}
	return c, false
}

func firstOf(a, b runtime.Time) runtime.Time {
	if a.IsZero() {
		return b
	}
	return a
}
