package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ecsd/pkg/logs/writer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rec is one record of a log file.
func rec(sec int, stream, tag, text string) string {
	return time.Unix(int64(sec), 0).UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + stream + " " + tag + " " + text + "\n"
}

// write makes the files of a log, the newest first.
func write(t *testing.T, files ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "c.log")
	for i, content := range files {
		name := path
		if i > 0 {
			name = fmt.Sprintf("%s.%d", path, i)
		}
		if content == "-" { // a hole in the numbers
			continue
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// all reads a log to its end, as a user sees it.
func all(t *testing.T, path string, o Options, timestamps bool) string {
	t.Helper()
	r, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if err := Copy(t.Context(), &b, r, timestamps, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	long := strings.Repeat("L", 16<<10)
	threeFiles := []string{
		rec(30, "stdout", "F", "five") + rec(31, "stderr", "F", "six"),
		rec(20, "stdout", "F", "three") + rec(21, "stdout", "F", "four"),
		"-",
		rec(10, "stderr", "F", "one") + rec(11, "stdout", "F", "two"),
	}
	for name, c := range map[string]struct {
		files []string
		opt   Options
		stamp bool
		want  string
	}{
		"all files, oldest first": {threeFiles, Options{Tail: -1}, false, "one\ntwo\nthree\nfour\nfive\nsix\n"},
		"tail in one file":        {threeFiles, Options{Tail: 1}, false, "six\n"},
		"tail over files":         {threeFiles, Options{Tail: 5}, false, "two\nthree\nfour\nfive\nsix\n"},
		"tail of more than all":   {threeFiles, Options{Tail: 100}, false, "one\ntwo\nthree\nfour\nfive\nsix\n"},
		"tail of nothing":         {threeFiles, Options{Tail: 0}, false, ""},
		"one stream":              {threeFiles, Options{Tail: -1, Stream: "stderr"}, false, "one\nsix\n"},
		"tail of one stream":      {threeFiles, Options{Tail: 2, Stream: "stdout"}, false, "four\nfive\n"},
		"since":                   {threeFiles, Options{Tail: -1, Since: time.Unix(21, 0)}, false, "four\nfive\nsix\n"},
		"since and tail":          {threeFiles, Options{Tail: 9, Since: time.Unix(31, 0)}, false, "six\n"},
		"since in the future":     {threeFiles, Options{Tail: -1, Since: time.Now().Add(time.Hour)}, false, ""},
		"timestamps": {[]string{rec(10, "stdout", "F", "a b")}, Options{Tail: -1}, true,
			"1970-01-01T00:00:10.000000000Z a b\n"},
		"pieces joined": {[]string{rec(1, "stdout", "P", long) + rec(2, "stderr", "F", "between") + rec(3, "stdout", "F", "end")},
			Options{Tail: -1}, false, "between\n" + long + "end\n"},
		"pieces over a rotation": {[]string{rec(3, "stdout", "F", "end"), rec(1, "stdout", "P", long)},
			Options{Tail: -1}, false, long + "end\n"},
		"empty text": {[]string{rec(1, "stdout", "F", "") + "1970-01-01T00:00:01Z stdout F\n"}, Options{Tail: -1}, false, "\n\n"},
		"more tags":  {[]string{"1970-01-01T00:00:01.5Z stdout F:x text\n"}, Options{Tail: -1}, false, "text\n"},
		"not a record": {[]string{"rubbish\n" + "2026-01-01 stdout F x\n" + rec(1, "stdlog", "F", "x")},
			Options{Tail: -1}, false, "rubbish\n2026-01-01 stdout F x\n" + rec(1, "stdlog", "F", "x")},
		"half a record at the end": {[]string{rec(1, "stdout", "F", "whole") + "1970-01-01T00:00:0"}, Options{Tail: -1}, false, "whole\n"},
		"empty file":               {[]string{""}, Options{Tail: 5}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := all(t, write(t, c.files...), c.opt, c.stamp); got != c.want {
				t.Errorf("got %.300q\nwant %.300q", got, c.want)
			}
		})
	}
}

func TestLineLongerThanMemoryAllows(t *testing.T) {
	var b strings.Builder
	piece := strings.Repeat("x", writer.MaxText)
	const pieces = 640 // 10 MB
	for range pieces {
		b.WriteString(rec(1, "stdout", "P", piece))
	}
	b.WriteString(rec(1, "stdout", "F", "end"))
	path := write(t, b.String()+rec(2, "stdout", "F", "next"))
	if got := all(t, path, Options{Tail: -1}, false); len(got) != pieces*len(piece)+len("end\nnext\n") || !strings.HasSuffix(got, "xend\nnext\n") {
		t.Errorf("%d bytes, ending %q", len(got), got[len(got)-20:])
	}
	if got := all(t, path, Options{Tail: 1}, false); got != "next\n" {
		t.Errorf("tail 1 is %.40q…", got)
	}
	r, err := Open(path, Options{Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		l, err := r.Next(t.Context())
		if err == io.EOF {
			break
		}
		if err != nil || len(l.Text) > maxLine+writer.MaxText {
			t.Fatalf("%d bytes at once, error %v", len(l.Text), err)
		}
	}
}

func TestMissingLog(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "no", "c.log"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want one that is fs.ErrNotExist", err)
	}
}

// follow reads lines until n have come.
func follow(t *testing.T, r *Reader, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var lines []string
	for range n {
		l, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("after %d of %d lines: %v", len(lines), n, err)
		}
		lines = append(lines, string(l.Text))
	}
	return lines
}

func TestFollowWaitsForTheDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tasks", "1", "c.log")
	r, err := Open(path, Options{Follow: true, Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		_ = os.WriteFile(path, []byte(rec(1, "stdout", "F", "hello")), 0o600)
	}()
	if got := follow(t, r, 1); got[0] != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestFollowEnds(t *testing.T) {
	path := write(t, rec(1, "stdout", "F", "one"))
	ended := make(chan struct{})
	r, err := Open(path, Options{Follow: true, Tail: -1, Ended: ended})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	follow(t, r, 1)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprint(f, rec(2, "stdout", "F", "last words"))
	close(ended)
	follow(t, r, 1)
	if _, err := r.Next(t.Context()); err != io.EOF {
		t.Errorf("error %v, want io.EOF", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r2, err := Open(path, Options{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	if _, err := r2.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

// A writer that ran out of disk takes half a record back and writes another in its place.
func TestFollowOverATakenBackRecord(t *testing.T) {
	path := write(t, rec(1, "stdout", "F", "one")+"1970-01-01T00:00:02.0000")
	r, err := Open(path, Options{Follow: true, Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	follow(t, r, 1)
	if err := os.Truncate(path, int64(len(rec(1, "stdout", "F", "one")))); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprint(f, rec(3, "stdout", "F", "two"))
	if got := follow(t, r, 1); got[0] != "two" {
		t.Errorf("got %q", got)
	}
}

// The real writer rotates over a hundred times under load while two readers follow, one
// from the start and one that comes in the middle: each sees each line once, in order.
func TestFollowOverRotations(t *testing.T) {
	const lines = 60_000
	path := filepath.Join(t.TempDir(), "c.log")
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer outR.Close()
	none, noneW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	noneW.Close()

	early, err := Open(path, Options{Follow: true, Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()

	done := make(chan struct{})
	go func() {
		defer close(done)
		writer.Run(writer.Options{File: path, MaxSize: 32 << 10, MaxFile: 1000}, int(outR.Fd()), int(none.Fd()), func() {})
	}()
	defer func() { <-done }()
	half := make(chan struct{})
	go func() {
		defer outW.Close()
		for i := range lines {
			if i == lines/2 {
				close(half)
			}
			fmt.Fprintf(outW, "line %d of some length\n", i)
		}
	}()
	check := func(name string, got []string) {
		for i, l := range got {
			if l != fmt.Sprintf("line %d of some length", i) {
				t.Fatalf("%s reader: line %d is %q", name, i, l)
			}
		}
	}
	check("early", follow(t, early, lines/3))
	<-half
	late, err := Open(path, Options{Follow: true, Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	check("late", follow(t, late, lines))
	rest := follow(t, early, lines-lines/3)
	if last := rest[len(rest)-1]; last != fmt.Sprintf("line %d of some length", lines-1) {
		t.Errorf("early reader: last line is %q", last)
	}
	if n := highest(path); n < 100 {
		t.Errorf("only %d rotations", n)
	}
}

func TestSlowReaderIsTold(t *testing.T) {
	path := write(t, rec(1, "stdout", "F", "one"))
	r, err := Open(path, Options{Follow: true, Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	follow(t, r, 1)
	for i, text := range []string{"eight", "nine"} { // what came between is gone
		if err := os.Remove(path); err != nil && i == 0 {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(rec(8+i, "stdout", "F", text)), 0o600); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	l, err := r.Next(t.Context())
	if err != nil || string(l.Text) != "eight" || !l.Gap {
		t.Errorf("got %q, gap %v, error %v; want eight after a gap", l.Text, l.Gap, err)
	}
	if l, err := r.Next(t.Context()); err != nil || string(l.Text) != "nine" || l.Gap {
		t.Errorf("got %q, gap %v, error %v; want nine with no gap", l.Text, l.Gap, err)
	}
}

// Whatever stands in a file is shown.
func TestDecodeNeverFails(t *testing.T) {
	for _, s := range []string{"", " ", "  ", "\x00", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z stdout", "2026-01-01T00:00:00Z stdout F"} {
		r := decode([]byte(s))
		if r.stream == "" || (string(r.text) != s && r.time.IsZero()) {
			t.Errorf("decode(%q) = %+v", s, r)
		}
	}
}
