package writer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseArgs(t *testing.T) {
	for _, c := range []struct {
		args []string
		want Options
		err  string
	}{
		{[]string{"file", "/l/a.log"}, Options{File: "/l/a.log", MaxFile: 1}, ""},
		{[]string{"max-file", "5", "tty", "true", "file", "/l/a.log", "max-size", "100"}, Options{"/l/a.log", 100, 5, true}, ""},
		{[]string{"colour", "blue", "file", "/l/a.log"}, Options{File: "/l/a.log", MaxFile: 1}, ""},
		{[]string{"file", "/l/a.log", "max-size", "ten"}, Options{File: "/l/a.log", MaxFile: 1}, "max-size"},
		{[]string{"file", "/l/a.log", "max-size", "-5", "max-file", "0"}, Options{File: "/l/a.log", MaxFile: 1}, ""},
		{nil, Options{MaxFile: 1}, "file"},
		{[]string{"file"}, Options{MaxFile: 1}, "file"},
	} {
		got, err := ParseArgs(c.args)
		if got != c.want {
			t.Errorf("ParseArgs(%q) = %+v, want %+v", c.args, got, c.want)
		}
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("ParseArgs(%q): error %v, want one that names %q", c.args, err, c.err)
		}
	}
}

// run feeds the writer from a goroutine and gives what it left in the directory, oldest
// file first.
func run(t *testing.T, o Options, feed func(stdout, stderr *os.File)) (files []string) {
	t.Helper()
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		feed(outW, errW)
		outW.Close()
		errW.Close()
	}()
	Run(o, int(outR.Fd()), int(errR.Fd()), func() {})
	<-done
	for i := 50; i >= 1; i-- {
		if b, err := os.ReadFile(numbered(o.File, i)); err == nil {
			files = append(files, string(b))
		}
	}
	if b, err := os.ReadFile(o.File); err == nil {
		files = append(files, string(b))
	}
	return files
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// texts undoes the format, strictly: anything that is not a record fails the test.
func texts(t *testing.T, files []string) (lines []string) {
	t.Helper()
	rec := regexp.MustCompile(`(?s)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) ([FP]) (.*)$`)
	open := map[string]string{}
	for _, f := range files {
		if f == "" {
			continue
		}
		if !strings.HasSuffix(f, "\n") {
			t.Fatalf("a file does not end with a whole record: …%q", f[max(0, len(f)-80):])
		}
		for _, l := range strings.Split(strings.TrimSuffix(f, "\n"), "\n") {
			m := rec.FindStringSubmatch(l)
			if m == nil {
				t.Fatalf("not a record: %.120q", l)
			}
			open[m[1]] += m[3]
			if m[2] == "F" {
				lines = append(lines, m[1]+" "+open[m[1]])
				delete(open, m[1])
			}
		}
	}
	if len(open) > 0 {
		t.Errorf("lines without an end: %.200q", fmt.Sprint(open))
	}
	return lines
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 10<<20)
	exact := strings.Repeat("y", MaxText)
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":           {"", nil},
		"one":               {"hello\n", []string{"hello"}},
		"empty lines":       {"\n\na\n", []string{"", "", "a"}},
		"no newline at end": {"a\nb", []string{"a", "b"}},
		"carriage return":   {"a\r\n", []string{"a\r"}},
		"10 MB line":        {long + "\nafter\n", []string{long, "after"}},
		"10 MB, no newline": {long, []string{long}},
		"exactly one piece": {exact + "\n", []string{exact}},
		"one byte more":     {exact + "y\n", []string{exact + "y"}},
		"garbage":           {"\x00\xff\x1b[2J\xfe\n\x80\n", []string{"\x00\xff\x1b[2J\xfe", "\x80"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "made", "c.log")
			got := texts(t, run(t, Options{File: file, MaxFile: 1}, func(out, _ *os.File) { fmt.Fprint(out, c.in) }))
			var want []string
			for _, w := range c.want {
				want = append(want, "stdout "+w)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %.200q, want %.200q", got, want)
			}
		})
	}
}

func TestStreamsApart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.log")
	got := texts(t, run(t, Options{File: file}, func(out, err *os.File) {
		fmt.Fprint(out, "half ")
		fmt.Fprint(err, "other\n")
		fmt.Fprint(out, "line\n")
	}))
	have := strings.Join(got, "|")
	if !strings.Contains(have, "stdout half line") || !strings.Contains(have, "stderr other") {
		t.Errorf("streams were mixed: %q", got)
	}
}

func TestTTYEndsWithStdout(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.log")
	outR, outW := pipe(t)
	errR, _ := pipe(t) // its other end stays open, as the shim leaves it
	fmt.Fprint(outW, "prompt> ")
	outW.Close()
	Run(Options{File: file, TTY: true}, int(outR.Fd()), int(errR.Fd()), func() {})
	b, err := os.ReadFile(file)
	if err != nil || !strings.HasSuffix(string(b), " stdout F prompt> \n") {
		t.Errorf("file %q, error %v", b, err)
	}
}

func TestRotationKeepsEveryLineAndTheLimits(t *testing.T) {
	const lines, size = 20_000, 64 << 10
	file := filepath.Join(t.TempDir(), "c.log")
	o := Options{File: file, MaxSize: size, MaxFile: 50}
	got := texts(t, run(t, o, func(out, err *os.File) {
		for i := range lines {
			fmt.Fprintf(out, "line %d of the container's output\n", i)
		}
	}))
	if len(got) != lines {
		t.Fatalf("%d lines, want %d", len(got), lines)
	}
	for i, l := range got {
		if want := fmt.Sprintf("stdout line %d of the container's output", i); l != want {
			t.Fatalf("line %d is %q", i, l)
		}
	}
	names, _ := filepath.Glob(file + "*")
	if len(names) < 10 {
		t.Errorf("only %d files: it hardly rotated", len(names))
	}
	for _, n := range names {
		if info, err := os.Stat(n); err != nil || info.Size() > size {
			t.Errorf("%s has %d bytes, more than %d", n, info.Size(), size)
		}
	}
}

func TestRotationKeepsNoMoreFilesThanAsked(t *testing.T) {
	for _, keep := range []int{1, 2, 3} {
		dir := t.TempDir()
		run(t, Options{File: filepath.Join(dir, "c.log"), MaxSize: 1000, MaxFile: keep}, func(out, _ *os.File) {
			for i := range 500 {
				fmt.Fprintln(out, "line", i)
			}
		})
		names, _ := filepath.Glob(filepath.Join(dir, "*"))
		if len(names) != keep {
			t.Errorf("max-file %d: files %v", keep, names)
		}
		b, _ := os.ReadFile(filepath.Join(dir, "c.log"))
		if !strings.HasSuffix(string(b), " line 499\n") {
			t.Errorf("max-file %d: the newest file ends with …%q", keep, b[max(0, len(b)-40):])
		}
	}
}

func TestGoesOnAfterACrash(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.log")
	if err := os.WriteFile(file, []byte("2026-01-02T03:04:05.000000000Z stdout F torn in the mid"), 0o640); err != nil {
		t.Fatal(err)
	}
	got := texts(t, run(t, Options{File: file}, func(out, _ *os.File) { fmt.Fprintln(out, "next") }))
	if !reflect.DeepEqual(got, []string{"stdout torn in the mid", "stdout next"}) {
		t.Errorf("got %q", got)
	}
}

// A disk that fills up and is cleared: the container is never held up, no torn record
// stays, and the numbers add up.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: mounting a small tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, bytes.Repeat([]byte{1}, 30<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	const before, after = 5000, 10
	file := filepath.Join(dir, "c.log")
	got := texts(t, run(t, Options{File: file}, func(out, _ *os.File) {
		for i := range before {
			fmt.Fprintln(out, "line", i)
		}
		// The pipe holds 64 KiB: more than it holds goes through only if the writer reads on.
		for range 20 {
			fmt.Fprintln(out, strings.Repeat("z", 10_000))
		}
		if err := os.Remove(ballast); err != nil {
			t.Error(err)
		}
		for i := range after {
			fmt.Fprintln(out, "after", i)
		}
	}))
	var kept, told int
	for _, l := range got {
		var n int
		if _, err := fmt.Sscanf(l, "stderr ecsd-log: %d lines dropped: no space left on device", &n); err == nil {
			told += n
		} else {
			kept++
		}
	}
	if told == 0 {
		t.Error("nothing says that lines were dropped")
	}
	if kept+told != before+20+after {
		t.Errorf("%d lines kept and %d reported as dropped, want %d together", kept, told, before+20+after)
	}
}

func TestNoDirectoryToWriteTo(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The directory's name is a file's: the log cannot be opened. The container must run.
	run(t, Options{File: filepath.Join(blocked, "c.log")}, func(out, _ *os.File) {
		for range 100 {
			fmt.Fprintln(out, strings.Repeat("z", 10_000))
		}
	})
}

// Nothing may be allocated per line: that is why this process stays small.
func TestNoAllocationPerLine(t *testing.T) {
	var f file
	f.reset(Options{File: filepath.Join(t.TempDir(), "c.log")})
	f.open()
	defer f.close()
	text := bytes.Repeat([]byte("x"), 200)
	now := int64(1_700_000_000_000_000_000)
	if n := testing.AllocsPerRun(1000, func() {
		now += 1000
		f.record(now, " stdout ", 'F', text)
		f.flush(now)
	}); n != 0 {
		t.Errorf("%v allocations a line, want 0", n)
	}
}

// Whatever the bytes, and however they are cut: the text of the records is the input.
func FuzzStream(f *testing.F) {
	f.Add([]byte("a\nb\nc"), uint16(2))
	f.Add(bytes.Repeat([]byte("long"), 9000), uint16(7000))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		dir := t.TempDir()
		got := texts(t, run(t, Options{File: filepath.Join(dir, "c.log"), MaxSize: 100_000, MaxFile: 50}, func(out, _ *os.File) {
			for rest := in; len(rest) > 0; {
				n := min(int(cut)+1, len(rest))
				_, _ = out.Write(rest[:n])
				rest = rest[n:]
			}
		}))
		var want []string
		if len(in) > 0 {
			for _, l := range strings.Split(strings.TrimSuffix(string(in), "\n"), "\n") {
				want = append(want, "stdout "+l)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %.300q, want %.300q", got, want)
		}
	})
}
