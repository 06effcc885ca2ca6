package cgroup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// systemdSlices makes slices through systemd's own interface: what it did not make itself
// it may change or remove at any time. A connection lives as long as one call, which
// survives restarts of the bus.
type systemdSlices struct{}

func (systemdSlices) start(ctx context.Context, slice string, r *specs.LinuxResources) error {
	conn, err := systemd.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer conn.Close()
	properties := sliceProperties(slice, r)
	done := make(chan string, 1)
	_, err = conn.StartTransientUnitContext(ctx, slice, "replace", properties, done)
	if unitExists(err) {
		// Asked for again: only the limits are set anew.
		return conn.SetUnitPropertiesContext(ctx, slice, true, limitProperties(r)...)
	}
	if err != nil {
		return err
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("systemd could not start %s: job %s", slice, result)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (systemdSlices) stop(ctx context.Context, slice string) error {
	conn, err := systemd.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer conn.Close()
	done := make(chan string, 1)
	if _, err := conn.StopUnitContext(ctx, slice, "replace", done); err != nil {
		if strings.Contains(err.Error(), "not loaded") {
			return nil
		}
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sliceProperties describes a task's slice to systemd.
func sliceProperties(slice string, r *specs.LinuxResources) []systemd.Property {
	return append([]systemd.Property{
		systemd.PropDescription("ecsd task " + taskOf(slice)),
		property("DefaultDependencies", false),
		property("CPUAccounting", true),
		property("MemoryAccounting", true),
		property("TasksAccounting", true),
		property("IOAccounting", true),
	}, limitProperties(r)...)
}

// taskOf is the task whose slice this is: what follows the last dash.
func taskOf(slice string) string {
	return strings.TrimSuffix(slice[strings.LastIndex(slice, "-")+1:], ".slice")
}

// limitProperties are a task's limits in systemd's words. Pure.
func limitProperties(r *specs.LinuxResources) []systemd.Property {
	var p []systemd.Property
	if c := r.CPU; c != nil {
		if c.Shares != nil && *c.Shares >= 2 {
			p = append(p, property("CPUWeight", weight(*c.Shares)))
		}
		if c.Quota != nil {
			perSecond := uint64(math.MaxUint64)
			if *c.Quota > 0 {
				period := uint64(100000)
				if c.Period != nil && *c.Period > 0 {
					period = *c.Period
				}
				perSecond = wholePercent(uint64(*c.Quota) * 1000000 / period)
				p = append(p, property("CPUQuotaPeriodUSec", period))
			}
			p = append(p, property("CPUQuotaPerSecUSec", perSecond))
		}
	}
	if m := r.Memory; m != nil {
		if m.Limit != nil {
			p = append(p, property("MemoryMax", orInfinity(*m.Limit)))
		}
		if m.Swap != nil {
			swap := *m.Swap
			if swap > 0 && m.Limit != nil && *m.Limit > 0 {
				swap -= *m.Limit
			}
			p = append(p, property("MemorySwapMax", orInfinity(swap)))
		}
		if m.Reservation != nil {
			p = append(p, property("MemoryLow", orInfinity(*m.Reservation)))
		}
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		limit := *r.Pids.Limit
		if limit <= 0 {
			limit = -1
		}
		p = append(p, property("TasksMax", orInfinity(limit)))
	}
	return p
}

// wholePercent rounds µs of processor time in a second up to a whole percent. systemd keeps
// quotas in percent: a fraction would be cut off at its next reload, not now.
func wholePercent(perSecond uint64) uint64 {
	const percent = 10000
	return (perSecond + percent - 1) / percent * percent
}

func orInfinity(v int64) uint64 {
	if v < 0 {
		return math.MaxUint64
	}
	return uint64(v)
}

func property(name string, value any) systemd.Property {
	return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
}

func unitExists(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == "org.freedesktop.systemd1.UnitExists"
}
