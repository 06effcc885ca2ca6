package spec

import "time"

// Time is a moment on this machine. Moments of one boot are compared by the boot clock,
// which neither jumps nor sleeps; Wall is for display only.
type Time struct {
	Boot string        `json:"boot"` // boot id
	At   time.Duration `json:"at"`   // CLOCK_BOOTTIME
	Wall time.Time     `json:"wall"`
}

// IsZero reports whether the moment never came.
func (t Time) IsZero() bool { return t == Time{} }

// Since is the time from u to t. ok is false when they are of different boots: then
// whatever ran at u is dead and every timer that began there is over.
func (t Time) Since(u Time) (d time.Duration, ok bool) {
	if t.Boot != u.Boot {
		return 0, false
	}
	return t.At - u.At, true
}

// Add is the moment d later.
func (t Time) Add(d time.Duration) Time {
	return Time{Boot: t.Boot, At: t.At + d, Wall: t.Wall.Add(d)}
}
