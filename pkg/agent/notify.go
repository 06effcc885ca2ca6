package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifier tells systemd, where there is one, how the agent fares.
type notifier struct {
	log      *slog.Logger
	watchdog time.Duration // 0: none asked for
}

func newNotifier(log *slog.Logger) notifier {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog settings cannot be read", "error", err)
	}
	return notifier{log, d}
}

func (n notifier) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("systemd cannot be told", "state", state, "error", err)
	}
}

func (n notifier) stopping() { n.tell(daemon.SdNotifyStopping) }

// watch says READY=1 once the agent is, asks the machine for its versions, and feeds the
// watchdog for as long as the reconciler turns: an agent whose loop is stuck is one that
// systemd should start anew.
func (n *node) watch(ctx context.Context) error {
	every := 20 * time.Millisecond // until ready; nobody else waits for this but systemd
	if n.notify.watchdog > 0 {
		every = min(every, n.notify.watchdog/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	ready := false
	for {
		ok := n.ready() == nil
		n.metrics.ready.Set(boolFloat(ok))
		if ok && !ready {
			ready = true
			n.metrics.started.SetToCurrentTime()
			n.notify.tell(daemon.SdNotifyReady)
			n.log.Info("ready")
			tick.Reset(max(every, time.Second))
			if n.notify.watchdog > 0 {
				tick.Reset(n.notify.watchdog / 3)
			}
		}
		if n.versions.Load() == nil {
			n.askVersions(ctx)
		}
		if n.notify.watchdog > 0 && n.reconciler.Alive() {
			n.notify.tell(daemon.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *node) askVersions(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	v, err := n.runtime.Ping(ctx)
	if err != nil {
		return
	}
	n.versions.Store(&v)
	n.metrics.build(n.build, v)
}

func boolFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
