package writer

import "time"

// stampOf renders a moment (nanoseconds since 1970) as RFC 3339 in UTC, always with nine
// digits after the second: such stamps sort as text. All records of one read share one.
func (f *file) stampOf(now int64) []byte {
	if now != f.stampAt {
		time.Unix(0, now).UTC().AppendFormat(f.stamp[:0], "2006-01-02T15:04:05.000000000Z")
		f.stampAt = now
	}
	return f.stamp[:]
}
