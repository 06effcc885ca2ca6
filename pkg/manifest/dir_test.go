package manifest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ecsd/pkg/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// follower runs a Dir on the real file system, with real inotify.
type follower struct {
	t    *testing.T
	dir  *Dir
	path string
	sets chan Set
	stop func()

	mu     sync.Mutex
	events []spec.Event
}

// deadline bounds the waits of tests for what another part of the process does.
const deadline = 20 * time.Second

func follow(t *testing.T, c Config) *follower {
	t.Helper()
	f := &follower{t: t, path: c.Path, sets: make(chan Set, 10_000)}
	c.Event = func(e spec.Event) { f.mu.Lock(); f.events = append(f.events, e); f.mu.Unlock() }
	if c.Rescan == 0 {
		c.Rescan = time.Hour // what a test sees, it sees by events
	}
	f.dir = New(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.dir.Run(ctx, func(s Set) { f.sets <- s }) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

// until waits for the set that defines just this.
func (f *follower) until(want string) {
	f.t.Helper()
	timeout := time.After(deadline)
	var last string
	for {
		select {
		case s := <-f.sets:
			if last = defined(s); last == want {
				return
			}
		case <-timeout:
			f.t.Fatalf("the set is %q and not %q; files: %s", last, want, f.status())
		}
	}
}

// settled makes sure that all changes until now have been seen, and gives the last set
// since the last look, if there was one.
func (f *follower) settled() (last *Set) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), deadline)
	defer cancel()
	if err := f.dir.Rescan(ctx); err != nil {
		f.t.Fatal(err)
	}
	for {
		select {
		case s := <-f.sets:
			last = &s
		default:
			return last
		}
	}
}

// unchanged checks that nothing new has been handed on.
func (f *follower) unchanged() {
	f.t.Helper()
	if s := f.settled(); s != nil {
		f.t.Errorf("a new set came: %q", defined(*s))
	}
}

func (f *follower) status() string {
	return strings.ReplaceAll(status(f.dir.Files()), f.path+"/", "")
}

func (f *follower) expect(want string) {
	f.t.Helper()
	if got := f.status(); got != want {
		f.t.Errorf("status %q, want %q: %v", got, want, f.dir.Files())
	}
}

func (f *follower) says(text string) {
	f.t.Helper()
	if all := fmt.Sprint(f.dir.Files()); !strings.Contains(all, text) {
		f.t.Errorf("no file says %q: %s", text, all)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file the careful way: under another name, then renamed.
func put(t *testing.T, dir, name, text string) {
	t.Helper()
	tmp := filepath.Join(dir, "."+name+".tmp")
	must(t, os.WriteFile(tmp, []byte(text), 0o600))
	must(t, os.Rename(tmp, filepath.Join(dir, name)))
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", def("a", 0))
	f := follow(t, Config{Path: dir})
	f.until("a")
	if !f.dir.Ready() {
		t.Error("not ready after the first set")
	}
	put(t, dir, "b.yaml", def("b", 80)) // by rename
	f.until("a b:80")
	must(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte(def("b", 81)), 0o600)) // by writing and closing
	f.until("a b:81")
	must(t, os.Rename(filepath.Join(dir, "b.yaml"), filepath.Join(dir, "c.yaml")))
	f.until("a b:81")
	must(t, os.Remove(filepath.Join(dir, "c.yaml")))
	f.until("a")
	other := filepath.Join(t.TempDir(), "x.yaml")
	must(t, os.WriteFile(other, []byte(def("x", 0)), 0o600))
	if err := os.Link(other, filepath.Join(dir, "x.yaml")); err == nil { // by a hard link
		f.until("a x")
	}
}

// A manifest is not read while it is being written, even if what there is of it would do.
func TestHalfWritten(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", def("a", 0))
	f := follow(t, Config{Path: dir})
	f.until("a")
	h, err := os.Create(filepath.Join(dir, "b.yaml"))
	must(t, err)
	defer h.Close()
	fmt.Fprint(h, def("b", 0)+"---\n")
	put(t, dir, "c.yaml", def("c", 0)) // brings a scan
	f.until("a c")
	fmt.Fprint(h, def("d", 0))
	must(t, h.Close())
	f.until("a b d c")

	// The same for one that is there already: truncated, then written anew, slowly.
	h, err = os.Create(filepath.Join(dir, "b.yaml"))
	must(t, err)
	defer h.Close()
	put(t, dir, "c.yaml", def("c", 81))
	f.until("a b d c:81")
	fmt.Fprint(h, def("b", 82))
	must(t, h.Close())
	f.until("a b:82 c:81")
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.Type == spec.EventWarning && !strings.Contains(e.Message, "being written") {
			t.Errorf("warned: %+v", e)
		}
	}
}

func TestTouchedIsUnchanged(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", def("a", 0))
	f := follow(t, Config{Path: dir})
	f.until("a")
	for _, at := range []time.Time{time.Now(), time.Unix(0, 0), time.Now().Add(time.Hour)} {
		must(t, os.Chtimes(filepath.Join(dir, "a.yaml"), at, at))
		f.unchanged()
	}
	put(t, dir, "a.yaml", def("a", 0)) // another inode, the same text
	f.unchanged()
	before := f.dir.Files()
	put(t, dir, "a.yaml", "# a comment\n"+def("a", 0))
	if s := f.settled(); s == nil || defined(*s) != "a" || len(before) != 1 {
		t.Errorf("a comment: set %v", s)
	}
}

// What cannot be read says why, blocks nothing and stops nothing.
func TestStrangeFiles(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	put(t, outside, "out.yaml", def("out", 0))
	put(t, dir, "ok.yaml", def("ok", 0))
	put(t, dir, "good.yaml", def("good", 0))
	f := follow(t, Config{Path: dir})
	f.until("good ok")
	name := func(n string) string { return filepath.Join(dir, n) }

	must(t, os.Remove(name("good.yaml")))
	must(t, unix.Mkfifo(name("good.yaml"), 0o600)) // what counted, counts on
	must(t, unix.Mkfifo(name("fifo.yaml"), 0o600))
	must(t, os.Symlink("/dev/zero", name("zero.yaml")))
	must(t, os.Symlink("nowhere", name("dangling.yaml")))
	must(t, os.Symlink("loop.yaml", name("loop.yaml")))
	must(t, os.Symlink(filepath.Join(outside, "out.yaml"), name("outside.yaml")))
	must(t, os.Symlink("../"+filepath.Base(outside)+"/out.yaml", name("dots.yaml")))
	must(t, os.Symlink("fifo.yaml", name("tofifo.yaml")))
	must(t, os.Symlink(".", name("todir.yaml")))
	must(t, os.Mkdir(name("dir.yaml"), 0o700))
	huge, err := os.Create(name("huge.yaml"))
	must(t, err)
	must(t, huge.Truncate(1<<30))
	must(t, huge.Close())
	must(t, os.WriteFile(name("empty.yaml"), nil, 0o600))
	must(t, os.WriteFile(name("UPPER.YAML"), []byte(def("upper", 0)), 0o600))
	must(t, os.WriteFile(name("new\nline.yaml"), []byte(def("line", 0)), 0o600))
	for _, n := range []string{"ok.yaml.bak", "ok.yaml~", ".ok.yaml.swp", "#ok.yaml#", "ok.yaml.tmp", ".hidden.yaml", "README"} {
		must(t, os.WriteFile(name(n), []byte(def("ok", 0)), 0o600))
	}
	if s := f.settled(); s == nil || defined(*s) != "good line ok" {
		t.Errorf("set %v", s)
	}
	want := map[string]string{
		"good.yaml": "not a regular file", "fifo.yaml": "not a regular file", "zero.yaml": "cannot be followed within the directory",
		"dangling.yaml": "does not exist", "loop.yaml": "cannot be followed", "outside.yaml": "cannot be followed within the directory",
		"dots.yaml": "cannot be followed within the directory", "tofifo.yaml": "not a regular file", "huge.yaml": "1048576",
		"empty.yaml": "empty", "todir.yaml": "a link to a directory", "dir.yaml": "subdirectories", "UPPER.YAML": "lower case",
		"ok.yaml.bak": "does not end in", "ok.yaml~": "does not end in", ".ok.yaml.swp": "dot", "#ok.yaml#": "does not end in",
		"ok.yaml.tmp": "does not end in", ".hidden.yaml": "dot", "README": "does not end in",
	}
	for _, file := range f.dir.Files() {
		base := filepath.Base(file.Path)
		if why := want[base]; why != "" {
			if !strings.Contains(strings.Join(file.Reasons, " "), why) || file.Status == StatusAccepted {
				t.Errorf("%s is %s because %q, want %q", base, file.Status, file.Reasons, why)
			}
			delete(want, base)
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}

func TestUnreadableFile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", def("a", 0))
	f := follow(t, Config{Path: dir})
	f.until("a")
	must(t, os.Chmod(filepath.Join(dir, "a.yaml"), 0o666))
	f.unchanged()
	f.says("anybody can write it")
	if os.Getuid() == 0 {
		must(t, os.Chown(filepath.Join(dir, "a.yaml"), 12345, -1))
		f.unchanged()
		f.says("user 12345")
	}
}

// The ways in which directories vanish. None stops anything, and all are seen to end.
func TestVanishingDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		away, back func(t *testing.T, dir string)
	}{
		"moved away": {
			func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+".gone")) },
			func(t *testing.T, dir string) { must(t, os.Rename(dir+".gone", dir)) },
		},
		"removed": {
			func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) },
			func(t *testing.T, dir string) {
				must(t, os.MkdirAll(dir, 0o700))
				put(t, dir, "a.yaml", def("a", 0))
			},
		},
		"emptied": {
			func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "a.yaml"))) },
			func(t *testing.T, dir string) { put(t, dir, "a.yaml", def("a", 0)) },
		},
		"replaced by a file": {
			func(t *testing.T, dir string) {
				must(t, os.RemoveAll(dir))
				must(t, os.WriteFile(dir, nil, 0o600))
			},
			func(t *testing.T, dir string) {
				must(t, os.Remove(dir))
				must(t, os.Mkdir(dir, 0o700))
				put(t, dir, "a.yaml", def("a", 0))
			},
		},
		"replaced by a FIFO": {
			func(t *testing.T, dir string) {
				must(t, os.RemoveAll(dir))
				must(t, unix.Mkfifo(dir, 0o600))
			},
			func(t *testing.T, dir string) {
				must(t, os.Remove(dir))
				must(t, os.Mkdir(dir, 0o700))
				put(t, dir, "a.yaml", def("a", 0))
			},
		},
		"hidden by a mount": {
			func(t *testing.T, dir string) {
				if os.Getuid() != 0 {
					t.Skip("SKIPPED: mounting needs root")
				}
				must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"))
			},
			func(t *testing.T, dir string) { must(t, unix.Unmount(dir, 0)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "etc", "manifests")
			must(t, os.MkdirAll(dir, 0o700))
			put(t, dir, "a.yaml", def("a", 0))
			reg := prometheus.NewPedanticRegistry()
			f := follow(t, Config{Path: dir, Registerer: reg})
			f.until("a")
			c.away(t, dir)
			f.unchanged()
			if f.dir.Problem() == "" {
				t.Error("no problem is reported")
			}
			f.says("nothing is stopped")
			if v := testutil.ToFloat64(f.dir.metrics.blocked); v != 1 {
				t.Errorf("ecsd_prune_blocked is %v", v)
			}
			c.back(t, dir)
			f.unchanged()
			if p := f.dir.Problem(); p != "" {
				t.Errorf("the problem is still reported: %s", p)
			}
			put(t, dir, "b.yaml", def("b", 0)) // it is watched again
			f.until("a b")
		})
	}
}

func TestAllowEmptyFile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", def("a", 0))
	f := follow(t, Config{Path: dir})
	f.until("a")
	must(t, os.Remove(filepath.Join(dir, "a.yaml")))
	f.unchanged()
	must(t, os.WriteFile(filepath.Join(dir, allowEmpty), nil, 0o600))
	f.until("")
}

func TestStartsWithout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	f := follow(t, Config{Path: dir})
	f.unchanged()
	if f.dir.Ready() {
		t.Error("ready without a directory")
	}
	must(t, os.MkdirAll(dir, 0o700))
	f.unchanged()
	if !f.dir.Ready() {
		t.Error("not ready with an empty directory")
	}
	put(t, dir, "a.yaml", def("a", 0))
	f.until("a")
}

// git-sync exchanges the link that the directory's path ends in.
func TestSwappedRoot(t *testing.T) {
	base := t.TempDir()
	tree := func(i int) string {
		d := filepath.Join(base, fmt.Sprint("tree", i))
		must(t, os.MkdirAll(filepath.Join(d, "manifests"), 0o700))
		put(t, filepath.Join(d, "manifests"), "a.yaml", def("a", 1000+i))
		return d
	}
	swap := func(to string) {
		must(t, os.Symlink(filepath.Base(to), filepath.Join(base, "tmp")))
		must(t, os.Rename(filepath.Join(base, "tmp"), filepath.Join(base, "current")))
	}
	last := tree(0)
	swap(last)
	f := follow(t, Config{Path: filepath.Join(base, "current", "manifests")})
	f.until("a:1000")
	for i := 1; i <= 200; i++ {
		d := tree(i)
		swap(d)
		must(t, os.RemoveAll(last))
		last = d
	}
	f.until("a:1200")
	swap(tree(201))
	f.until("a:1201")
}

// A ConfigMap exchanges the link ..data, over which the names in the directory lead.
func TestSwappedData(t *testing.T) {
	dir := t.TempDir()
	swap := func(i int) {
		d := fmt.Sprint("..v", i)
		must(t, os.Mkdir(filepath.Join(dir, d), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, d, "a.yaml"), []byte(def("a", 1000+i)), 0o600))
		must(t, os.Symlink(d, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if i > 0 {
			must(t, os.RemoveAll(filepath.Join(dir, fmt.Sprint("..v", i-1))))
		}
	}
	must(t, os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml"))) // links may be there before their targets
	f := follow(t, Config{Path: dir})
	f.unchanged()
	swap(0)
	f.until("a:1000")
	for i := 1; i <= 200; i++ {
		swap(i)
	}
	f.until("a:1200")
	f.expect("a.yaml=accepted")
}

func TestThousandEdits(t *testing.T) {
	dir := t.TempDir()
	f := follow(t, Config{Path: dir})
	for i := range 1000 {
		put(t, dir, "a.yaml", def("a", 1+i))
	}
	f.until("a:1000")
	n := testutil.CollectAndCount(f.dir.metrics.scan)
	if n == 0 {
		t.Error("no scan was measured")
	}
}

// Every event is lost. The clock comes to the same end.
func TestWithoutEvents(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sets []string
		handed := func() []string { mu.Lock(); defer mu.Unlock(); return sets }
		d := New(Config{Path: dir, Rescan: 30 * time.Second})
		d.events = func(context.Context) (<-chan struct{}, func(), func(string) bool) {
			return nil, func() {}, func(string) bool { return false }
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx, func(s Set) { mu.Lock(); sets = append(sets, defined(s)); mu.Unlock() }) }()
		expect := func(want string) {
			t.Helper()
			<-time.After(31 * time.Second)
			synctest.Wait()
			if got := handed(); len(got) == 0 || got[len(got)-1] != want {
				t.Errorf("sets %q, want the last to be %q", got, want)
			}
		}
		put(t, dir, "a.yaml", def("a", 1))
		expect("a:1")
		put(t, dir, "a.yaml", def("a", 2)) // the same size: content counts
		put(t, dir, "b.yaml", def("b", 0))
		expect("a:2 b")
		must(t, os.Remove(filepath.Join(dir, "b.yaml")))
		must(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(broken), 0o600))
		expect("a:2")
		must(t, os.Rename(dir, dir+".gone"))
		expect("a:2")
		must(t, os.Rename(dir+".gone", dir))
		put(t, dir, "a.yaml", def("a", 3))
		expect("a:3")
		before := len(handed())
		<-time.After(time.Hour)
		synctest.Wait()
		if n := len(handed()); n != before {
			t.Errorf("%d sets were handed on while nothing changed", n-before)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The first event is acted on at once, further ones are gathered, and a storm of them
// does not put a scan off for ever.
func TestGathering(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", def("a", 1))
	synctest.Test(t, func(t *testing.T) {
		changed := make(chan struct{}, 1)
		var mu sync.Mutex
		var all []time.Time
		scans := func() []time.Time { mu.Lock(); defer mu.Unlock(); return all }
		d := New(Config{Path: dir, Rescan: time.Hour})
		d.events = func(context.Context) (<-chan struct{}, func(), func(string) bool) {
			return changed, func() { mu.Lock(); all = append(all, time.Now()); mu.Unlock() }, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx, func(Set) {}) }()
		pause := func(p time.Duration) { <-time.After(p); synctest.Wait() }
		pause(time.Second)
		first := len(scans())
		start := time.Now()
		changed <- struct{}{}
		pause(time.Millisecond)
		if got := scans()[first:]; len(got) != 1 || got[0] != start {
			t.Fatalf("scans %v after an event at %v", got, start)
		}
		changed <- struct{}{} // 1 ms later: gathered
		pause(100 * time.Millisecond)
		changed <- struct{}{}
		pause(199 * time.Millisecond)
		if n := len(scans()) - first; n != 1 {
			t.Fatalf("%d scans, want still 1", n)
		}
		pause(2 * time.Millisecond)
		if n := len(scans()) - first; n != 2 {
			t.Fatalf("%d scans, want 2", n)
		}
		for range 100 { // 10 s of an event every 100 ms
			changed <- struct{}{}
			pause(100 * time.Millisecond)
		}
		if n := len(scans()) - first - 2; n < 4 || n > 6 {
			t.Errorf("%d scans in 10 s of storm, want one in about 2 s", n)
		}
		cancel()
		<-done
	})
}

// What was good before the agent stopped is good after: a file that turned invalid and a
// directory that vanished in between stop nothing.
func TestLastGoodOverRestarts(t *testing.T) {
	dir, keep := t.TempDir(), filepath.Join(t.TempDir(), "manifests.json")
	put(t, dir, "a.yaml", def("a", 80))
	put(t, dir, "b.yaml", def("b", 0))
	c := Config{Path: dir, LastGood: keep}
	f := follow(t, c)
	f.until("a:80 b")
	f.stop()
	if info, err := os.Stat(keep); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, error %v", info.Mode(), err)
	}

	put(t, dir, "a.yaml", broken)
	must(t, os.Remove(filepath.Join(dir, "b.yaml")))
	f = follow(t, c)
	f.until("a:80")
	f.expect("a.yaml=invalid+")
	f.stop()

	must(t, os.Rename(dir, dir+".gone"))
	f = follow(t, c)
	f.until("a:80")
	f.stop()

	must(t, os.WriteFile(keep, []byte(`{"version":99}`), 0o600))
	f = follow(t, c)
	f.unchanged() // nothing is known: silence
	f.stop()
}

func TestTooManyFiles(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", def("a", 0))
	f := follow(t, Config{Path: dir})
	f.until("a")
	for i := range maxEntries + 10 {
		must(t, os.Symlink("x", filepath.Join(dir, fmt.Sprint(i))))
	}
	f.unchanged()
	f.says("more than 10000 entries")
}

func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.yaml", def("a", 0))
	put(t, dir, "b.yaml", broken)
	put(t, dir, "c.txt", "")
	reg := prometheus.NewPedanticRegistry()
	f := follow(t, Config{Path: dir, Registerer: reg})
	f.until("a")
	f.unchanged()
	want := `
# HELP ecsd_manifest_files Manifest files seen, by status loaded, invalid, ignored.
# TYPE ecsd_manifest_files gauge
ecsd_manifest_files{status="ignored"} 1
ecsd_manifest_files{status="invalid"} 1
ecsd_manifest_files{status="loaded"} 1
# HELP ecsd_manifest_rejections_total Manifests refused, by bounded reason.
# TYPE ecsd_manifest_rejections_total counter
ecsd_manifest_rejections_total{reason="duplicate"} 0
ecsd_manifest_rejections_total{reason="invalid"} 0
ecsd_manifest_rejections_total{reason="reference"} 0
ecsd_manifest_rejections_total{reason="syntax"} 1
ecsd_manifest_rejections_total{reason="unreadable"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "ecsd_manifest_files", "ecsd_manifest_rejections_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// BenchmarkTenThousandFiles prints what the first load and one change cost.
func BenchmarkTenThousandFiles(b *testing.B) {
	dir := b.TempDir()
	for i := range maxEntries - 1 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%05d.yaml", i)), []byte(def(fmt.Sprint("f", i), 0)), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	var load, change, full time.Duration
	n := 0
	for b.Loop() {
		n++
		l := &loop{dir: New(Config{Path: dir}), set: func(Set) {}, aim: func() {}, scanner: scanner{path: dir}, memo: newMemo()}
		at := time.Now()
		l.pass(true)
		load += time.Since(at)
		<-time.After(2 * racy)
		l.pass(true)
		if err := os.WriteFile(filepath.Join(dir, "f00007.yaml"), []byte(def("f7", n)), 0o600); err != nil {
			b.Fatal(err)
		}
		at = time.Now()
		l.pass(false)
		change += time.Since(at)
		at = time.Now()
		l.pass(true)
		full += time.Since(at)
	}
	b.ReportMetric(load.Seconds()*1000/float64(n), "load-ms")
	b.ReportMetric(change.Seconds()*1000/float64(n), "change-ms")
	b.ReportMetric(full.Seconds()*1000/float64(n), "rescan-ms")
}
