package reconcile

import (
	"testing"
	"time"

	"ecsd/pkg/runtime/fake"
	"ecsd/pkg/spec"
)

// TestAlive: a loop that has not turned for longer than any call may take is stuck; one
// that has asked nothing yet, or turned in another boot, is not.
func TestAlive(t *testing.T) {
	now := spec.Time{Boot: "b", At: time.Hour}
	r := New(Config{Runtime: fake.New(), Now: func() spec.Time { return now }, Resync: 30 * time.Second, CallTimeout: time.Minute})
	limit := stuckAfter + 30*time.Second + time.Minute
	for name, c := range map[string]struct {
		turned spec.Time
		want   bool
	}{
		"never":             {spec.Time{}, true},
		"just now":          {now, true},
		"just in time":      {now.Add(-limit + time.Second), true},
		"too long ago":      {now.Add(-limit), false},
		"before the reboot": {spec.Time{Boot: "a", At: time.Second}, true},
	} {
		r.turned = c.turned
		if got := r.Alive(); got != c.want {
			t.Errorf("turned %s: Alive is %v", name, got)
		}
	}
}
