package writer

import (
	"bytes"
	"strconv"
	"syscall"
)

// file is the newest log file, the records waiting to be written to it, and the files
// it was before.
//
//	       write fails: cut back, count
//	open ──────────────────────────────► losing
//	 ▲                                      │
//	 └── write succeeds: "… lines dropped" ─┘   (opened again first, if it was not open)
//
// Rotation renames: web.log.1 to web.log.2, web.log to web.log.1, and makes a new
// web.log. A reader that has a file open goes on reading the same file. With one file
// kept, the old one is unlinked instead. A crash between two renames leaves a hole in the
// numbers, which neither the next rotation nor a reader minds.
type file struct {
	opt  Options
	fd   int   // negative: not open
	size int64 // bytes in the open file

	n       int // bytes in out
	records int // records in out
	lost    uint64
	why     syscall.Errno // of the first loss

	stampAt  int64 // moment that stamp shows
	stamp    [len("2006-01-02T15:04:05.000000000Z")]byte
	reserved [96]byte // for the line about losses
	out      [2 * MaxText]byte
}

const maxHead = len("2006-01-02T15:04:05.000000000Z stdout F ")

func (f *file) reset(o Options) {
	f.opt, f.fd, f.size = o, -1, 0
	f.n, f.records, f.lost, f.why = 0, 0, 0, 0
	f.stampAt = -1
}

// open opens the file for appending, and makes it and its directory when missing. On
// failure the file stays closed, and every flush tries again.
func (f *file) open() {
	if f.opt.File == "" {
		f.why = syscall.ENOENT
		return
	}
	// Read too, for the look at the last byte.
	const flags = syscall.O_RDWR | syscall.O_APPEND | syscall.O_CREAT | syscall.O_CLOEXEC | syscall.O_NOFOLLOW
	fd, err := syscall.Open(f.opt.File, flags, 0o640)
	if err == syscall.ENOENT {
		if i := lastSlash(f.opt.File); i > 0 {
			_ = syscall.Mkdir(f.opt.File[:i], 0o750)
		}
		fd, err = syscall.Open(f.opt.File, flags, 0o640)
	}
	if err != nil {
		f.blame(err)
		return
	}
	end, err := syscall.Seek(fd, 0, 2)
	if err != nil { // not a regular file
		f.blame(err)
		_ = syscall.Close(fd)
		return
	}
	f.fd, f.size = fd, end
	f.mend()
}

// mend ends a record that a crash of the machine cut short, so that the next record
// begins on a line of its own.
func (f *file) mend() {
	if f.size == 0 {
		return
	}
	last := f.reserved[:1]
	if n, err := syscall.Pread(f.fd, last, f.size-1); n != 1 || err != nil || last[0] == '\n' {
		return
	}
	last[0] = '\n'
	if n, _ := syscall.Write(f.fd, last); n == 1 {
		f.size++
	}
}

func (f *file) close() {
	if f.fd >= 0 {
		_ = syscall.Close(f.fd)
		f.fd = -1
	}
}

// record puts one record into the buffer; it is in the file after the next flush.
func (f *file) record(now int64, name string, tag byte, text []byte) {
	need := maxHead + len(text) + 1
	if f.n+need > len(f.out) {
		f.flush(now)
	}
	if held := f.size + int64(f.n); f.opt.MaxSize > 0 && held > 0 && held+int64(need) > f.opt.MaxSize {
		f.flush(now)
		f.rotate()
	}
	b := append(f.out[:f.n], f.stampOf(now)...)
	b = append(b, name...)
	b = append(b, tag, ' ')
	b = append(b, text...)
	b = append(b, '\n')
	f.n = len(b)
	f.records++
}

// flush writes what is in the buffer, or counts it as lost. It never waits for room.
func (f *file) flush(now int64) {
	if f.n == 0 {
		return
	}
	f.report(now)
	if f.fd < 0 || f.lost > 0 {
		f.lost += uint64(f.records)
	} else if done, ok := f.write(f.out[:f.n]); !ok {
		f.lost += uint64(f.records - bytes.Count(f.out[:done], newline))
	}
	f.n, f.records = 0, 0
}

// report says in the file how many records were lost, if any were, and forgets them when
// that could be written.
func (f *file) report(now int64) {
	if f.fd < 0 {
		f.open()
	}
	if f.lost == 0 || f.fd < 0 {
		return
	}
	b := append(f.reserved[:0], f.stampOf(now)...)
	b = append(b, " stderr F ecsd-log: "...)
	b = strconv.AppendUint(b, f.lost, 10)
	b = append(b, " lines dropped: "...)
	b = append(b, f.why.Error()...)
	b = append(b, '\n')
	if _, ok := f.write(b); ok {
		f.lost, f.why = 0, 0
	}
}

var newline = []byte{'\n'}

// write writes whole records. When not all can be written it takes back what is not a
// whole record, and says how many bytes stayed.
func (f *file) write(b []byte) (done int, ok bool) {
	for done < len(b) {
		n, err := syscall.Write(f.fd, b[done:])
		if err == syscall.EINTR {
			continue
		}
		if err == nil && n > 0 {
			done += n
			continue
		}
		f.blame(err)
		whole := bytes.LastIndexByte(b[:done], '\n') + 1
		if whole < done {
			if e := syscall.Ftruncate(f.fd, f.size+int64(whole)); e != nil {
				whole = done // the torn record stays; mend will end it
			}
		}
		f.size += int64(whole)
		return whole, false
	}
	f.size += int64(done)
	return done, true
}

// blame remembers why records are being lost: the first reason since the last report.
func (f *file) blame(err error) {
	if f.why != 0 {
		return
	}
	f.why = syscall.EIO
	if e, ok := err.(syscall.Errno); ok {
		f.why = e
	}
}

// rotate makes room by renaming. When it cannot, the file goes on growing: that is what
// an operator can see and cure, and it loses nothing.
func (f *file) rotate() {
	if f.fd < 0 {
		return
	}
	path, keep := f.opt.File, f.opt.MaxFile
	if keep <= 1 {
		if syscall.Unlink(path) != nil {
			return
		}
	} else {
		for i := keep - 2; i >= 1; i-- { // the rename removes the oldest
			_ = syscall.Rename(numbered(path, i), numbered(path, i+1))
		}
		if syscall.Rename(path, numbered(path, 1)) != nil {
			return
		}
	}
	f.close()
	f.size = 0
	f.open()
}

func numbered(path string, i int) string { return path + "." + strconv.Itoa(i) }

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}
