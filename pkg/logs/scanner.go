package logs

import (
	"bytes"
	"io"
	"os"
)

// maxRecord bounds what is held of a file that has no newlines; our writer's records are
// much shorter.
const maxRecord = 256 << 10

// scanner gives the whole lines of one file that may still grow. It never gives half a
// line: what is unfinished at the end of the file is read again the next time, so a
// writer may also cut it off.
type scanner struct {
	f    *os.File
	at   int64 // offset of the first byte not given yet
	buf  []byte
	from int // buf[from:] is what the file had at offset at
}

// next gives the next line without its newline, or io.EOF at the present end of the
// file, after which it can be called again. The line is valid until the next call.
func (s *scanner) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(s.buf[s.from:], '\n'); i >= 0 {
			line := s.buf[s.from : s.from+i]
			s.from += i + 1
			s.at += int64(i) + 1
			return line, nil
		}
		if held := s.buf[s.from:]; len(held) >= maxRecord {
			s.at += int64(len(held))
			s.from = len(s.buf)
			return held, nil
		}
		if err := s.fill(); err != nil {
			s.buf, s.from = s.buf[:0], 0
			return nil, err
		}
	}
}

func (s *scanner) fill() error {
	held := copy(s.buf[:cap(s.buf)], s.buf[s.from:])
	s.buf, s.from = s.buf[:held], 0
	if cap(s.buf)-held < 16<<10 {
		grown := make([]byte, held, max(64<<10, 2*cap(s.buf)))
		copy(grown, s.buf)
		s.buf = grown
	}
	n, err := s.f.ReadAt(s.buf[held:cap(s.buf)], s.at+int64(held))
	s.buf = s.buf[:held+n]
	if n > 0 {
		return nil
	}
	if err == io.EOF {
		// Somebody else's rotation may copy and truncate.
		if info, e := s.f.Stat(); e == nil && info.Size() < s.at {
			s.at = 0
		}
	}
	if err == nil {
		err = io.EOF
	}
	return err
}
