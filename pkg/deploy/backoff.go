package deploy

import (
	"hash/fnv"
	"strconv"
	"time"

	"ecsd/pkg/spec"
)

// Backoff is the pause before tasks of a deployment may start after level generations of
// them have failed in a row: none for the first, then about 1 s, 2 s, 4 s … up to
// MaxBackoff. The length varies by a tenth either way with the deployment and the level,
// always the same for the same ones, so that services that fail together do not come back
// together.
func Backoff(deployment string, level int) time.Duration {
	if level < 2 {
		return 0
	}
	d := MaxBackoff
	if shift := level - 2; shift < 6 {
		d = time.Second << shift
	}
	h := fnv.New32a()
	h.Write([]byte(deployment))
	h.Write([]byte(strconv.Itoa(level)))
	vary := float64(h.Sum32()%2001)/10000 - 0.1 // -0.1 … 0.1
	return min(MaxBackoff, d+time.Duration(vary*float64(d)))
}

// elapsed reports how long ago since was, and whether at least d have passed. What was in
// another boot is over.
func elapsed(now, since spec.Time, d time.Duration) (left time.Duration, over bool) {
	ago, same := now.Since(since)
	if !same || ago >= d {
		return 0, true
	}
	return d - ago, false
}
