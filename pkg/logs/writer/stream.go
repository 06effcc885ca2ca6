package writer

import (
	"bytes"
	"syscall"
)

// MaxText is the greatest length of a record's text, in bytes. A longer line is cut into
// records marked P and a last one marked F. The figure is that of the CRI log format's
// other writers.
const MaxText = 16 << 10

// stream is one output of the container and its unfinished line.
//
//	read ──► [ line \n line \n unfinished ........ ]
//	           └──F──┘ └──F──┘ └─ moved to the front, or P when the buffer is full
type stream struct {
	name string // with a blank on either side, as it stands in a record
	fd   int    // negative: ended
	n    int    // bytes of the unfinished line, at the front of buf
	cut  bool   // the line has begun in a P already
	buf  [MaxText]byte
}

func (s *stream) reset(fd int) { s.fd, s.n, s.cut = fd, 0, false }

// read takes what there is, at most one buffer, and hands whole lines to the file.
func (s *stream) read(f *file, now int64) {
	n, err := syscall.Read(s.fd, s.buf[s.n:])
	switch {
	case err == syscall.EINTR || err == syscall.EAGAIN:
		return
	case err != nil || n <= 0:
		if s.n > 0 || s.cut { // a last line without a newline
			f.record(now, s.name, 'F', s.buf[:s.n])
			s.n, s.cut = 0, false
		}
		s.fd = -1
		return
	}
	from, end := 0, s.n+n
	scan := s.n // what was left over has no newline
	for {
		i := bytes.IndexByte(s.buf[scan:end], '\n')
		if i < 0 {
			break
		}
		f.record(now, s.name, 'F', s.buf[from:scan+i])
		s.cut = false
		from = scan + i + 1
		scan = from
	}
	if from == 0 && end == len(s.buf) {
		f.record(now, s.name, 'P', s.buf[:end])
		s.n, s.cut = 0, true
		return
	}
	s.n = copy(s.buf[:], s.buf[from:end])
}
