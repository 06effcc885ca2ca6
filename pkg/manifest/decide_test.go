package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// def is a task definition as people write it, of a family, with a host port if it is not 0.
func def(family string, hostPort int) string {
	s := "family: " + family + "\nnetworkMode: bridge\ncontainerDefinitions:\n- name: app\n  image: example/app:1\n  memory: 32\n"
	if hostPort != 0 {
		s += fmt.Sprintf("  portMappings:\n  - containerPort: 80\n    hostPort: %d\n", hostPort)
	}
	return s
}

// svc is a service that runs a family.
func svc(name, family string) string {
	return "serviceName: " + name + "\ntaskDefinition: " + family + "\ndesiredCount: 1\n"
}

const broken = "family: [\n"

// world plays scans against decide, as Dir does.
type world struct {
	now   state
	memo  *memo
	last  decision
	texts map[string]*content
}

func newWorld() *world { return &world{memo: newMemo(), texts: map[string]*content{}} }

// scan is a scan that finds these files: name → text; a text of "!…" is a problem.
func (w *world) scan(files map[string]string) decision {
	var f found
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range files {
			if !yield(n) {
				return
			}
		}
	}) {
		text := files[name]
		switch {
		case strings.HasPrefix(text, "!"):
			f.entries = append(f.entries, entry{name: name, problem: text[1:]})
		case !strings.HasSuffix(name, ".yaml"):
			f.entries = append(f.entries, entry{name: name, ignored: "not a manifest"})
		default:
			key := name + "\x00" + text
			if w.texts[key] == nil {
				w.texts[key] = parse("/m/"+name, []byte(text))
			}
			f.entries = append(f.entries, entry{name: name, content: w.texts[key]})
		}
	}
	return w.take(f, false)
}

func (w *world) take(f found, mayBeEmpty bool) decision {
	w.last = decide("/m", w.now, f, mayBeEmpty, w.memo)
	w.now = w.last.next
	w.memo.keep(w.now.good)
	return w.last
}

// defined lists a set's objects, shortly.
func defined(s Set) string {
	var names []string
	for _, d := range s.Definitions {
		n := d.TaskDefinition.Family
		for _, c := range d.TaskDefinition.ContainerDefinitions {
			for _, p := range c.PortMappings {
				n += fmt.Sprint(":", p.HostPort)
			}
		}
		names = append(names, n)
	}
	for _, x := range s.Services {
		names = append(names, x.Service.ServiceName+">"+Family(x.Service.TaskDefinition))
	}
	return strings.Join(names, " ")
}

// status lists the files and their statuses, shortly; + says that last good content counts.
func status(files []File) string {
	var list []string
	for _, f := range files {
		s := strings.TrimPrefix(f.Path, "/m/") + "=" + f.Status
		if f.KeptGood {
			s += "+"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

func TestDecide(t *testing.T) {
	type m = map[string]string
	type step struct {
		files  m
		set    string
		status string
		why    string // in some reason or warning
	}
	for name, steps := range map[string][]step{
		"added, changed, removed": {
			{m{"a.yaml": def("a", 0)}, "a", "a.yaml=accepted", ""},
			{m{"a.yaml": def("a", 80), "b.yaml": def("b", 0)}, "a:80 b", "a.yaml=accepted b.yaml=accepted", ""},
			{m{"b.yaml": def("b", 0)}, "b", "b.yaml=accepted", ""},
		},
		"renamed": {
			{m{"a.yaml": def("a", 0)}, "a", "a.yaml=accepted", ""},
			{m{"z.yaml": def("a", 0)}, "a", "z.yaml=accepted", ""},
		},
		"turned invalid, and cured": {
			{m{"a.yaml": def("a", 80)}, "a:80", "a.yaml=accepted", ""},
			{m{"a.yaml": broken}, "a:80", "a.yaml=invalid+", "a.yaml:"},
			{m{"a.yaml": "!cannot be opened"}, "a:80", "a.yaml=invalid+", "cannot be opened"},
			{m{"a.yaml": ""}, "a:80", "a.yaml=invalid+", "empty"},
			{m{"a.yaml": def("a", 81)}, "a:81", "a.yaml=accepted", ""},
		},
		"invalid and then removed": {
			{m{"a.yaml": def("a", 0), "b.yaml": def("b", 0)}, "a b", "a.yaml=accepted b.yaml=accepted", ""},
			{m{"a.yaml": broken, "b.yaml": def("b", 0)}, "a b", "a.yaml=invalid+ b.yaml=accepted", ""},
			{m{"b.yaml": def("b", 0)}, "b", "b.yaml=accepted", ""},
		},
		"never valid": {
			{m{"a.yaml": broken}, "", "a.yaml=invalid", ""},
		},
		"a file counts as a whole": {
			{m{"a.yaml": def("a", 0) + "---\n" + def("b", 0)}, "a b", "a.yaml=accepted", ""},
			{m{"a.yaml": def("a", 80) + "---\n" + broken}, "a b", "a.yaml=invalid+", ""},
		},
		"two new files define the same": {
			{m{"a.yaml": def("x", 80), "b.yaml": def("x", 81)}, "", "a.yaml=duplicate b.yaml=duplicate", "also defined in /m/b.yaml"},
			{m{"b.yaml": def("x", 81)}, "x:81", "b.yaml=accepted", ""},
		},
		"a copy appears": {
			{m{"a.yaml": def("x", 80)}, "x:80", "a.yaml=accepted", ""},
			{m{"a.yaml": def("x", 80), "b.yaml": def("x", 81)}, "x:80", "a.yaml=duplicate+ b.yaml=duplicate", "also defined in /m/a.yaml"},
			{m{"a.yaml": def("x", 82), "b.yaml": def("x", 81)}, "x:80", "a.yaml=duplicate+ b.yaml=duplicate", ""},
			{m{"b.yaml": def("x", 81)}, "x:81", "b.yaml=accepted", ""},
		},
		"a family moves out of a file that is invalid": {
			{m{"a.yaml": def("x", 80)}, "x:80", "a.yaml=accepted", ""},
			{m{"a.yaml": broken, "b.yaml": def("x", 81)}, "x:80", "a.yaml=invalid+ b.yaml=duplicate", ""},
		},
		"a refusal that leads to another": {
			{m{"a.yaml": def("x", 1)}, "x:1", "a.yaml=accepted", ""},
			{m{"a.yaml": def("y", 2), "b.yaml": def("y", 3), "c.yaml": def("x", 4)}, "x:1", "a.yaml=duplicate+ b.yaml=duplicate c.yaml=duplicate", ""},
		},
		"service and definition": {
			{m{"d.yaml": def("x", 0), "s.yaml": svc("web", "x")}, "x web>x", "d.yaml=accepted s.yaml=accepted", ""},
			{m{"d.yaml": def("x", 0), "s.yaml": svc("web", "y")}, "x web>x", "d.yaml=accepted s.yaml=invalid+", `no manifest defines the family "y"`},
		},
		"service without definition": {
			{m{"s.yaml": svc("web", "x")}, "", "s.yaml=invalid", `no manifest defines the family "x"`},
			{m{"s.yaml": svc("web", "x"), "d.yaml": def("x", 0)}, "x web>x", "d.yaml=accepted s.yaml=accepted", ""},
		},
		"the definition of a service goes": {
			{m{"d.yaml": def("x", 0), "s.yaml": svc("web", "x")}, "x web>x", "d.yaml=accepted s.yaml=accepted", ""},
			{m{"s.yaml": svc("web", "x")}, "x web>x", "d.yaml=invalid+ s.yaml=accepted", "still names the family x"},
			{m{"s.yaml": svc("web", "x"), "t.yaml": def("x", 9)}, "x:9 web>x", "s.yaml=accepted t.yaml=accepted", ""},
			{m{"o.txt": "", "e.yaml": def("e", 0)}, "e", "e.yaml=accepted o.txt=ignored", ""},
		},
		"a file drops the definition of a service": {
			{m{"d.yaml": def("x", 0), "s.yaml": svc("web", "x")}, "x web>x", "d.yaml=accepted s.yaml=accepted", ""},
			{m{"d.yaml": def("z", 0), "s.yaml": svc("web", "x")}, "x web>x", "d.yaml=invalid+ s.yaml=accepted", "no longer defines"},
			{m{"d.yaml": def("z", 0), "s.yaml": svc("web", "z")}, "z web>z", "d.yaml=accepted s.yaml=accepted", ""},
		},
		"a definition would run under a service's name": {
			{m{"a.yaml": def("api", 0), "s.yaml": svc("web", "api")}, "api web>api", "a.yaml=accepted s.yaml=accepted", ""},
			{m{"a.yaml": def("api", 0), "s.yaml": svc("web", "api"), "w.yaml": def("web", 0)}, "api web>api", "a.yaml=accepted s.yaml=duplicate+ w.yaml=duplicate", "would run as the service web"},
		},
		"host ports claimed twice": {
			{m{"a.yaml": def("a", 80), "b.yaml": def("b", 80)}, "a:80 b:80", "a.yaml=accepted b.yaml=accepted", "host port 80/tcp is claimed by a too"},
		},
		"emptied": {
			{m{"a.yaml": def("a", 0)}, "a", "a.yaml=accepted", ""},
			{m{}, "a", "/m=invalid+ a.yaml=invalid+", ".allow-empty"},
			{m{"README": ""}, "a", "/m=invalid+ a.yaml=invalid+", ".allow-empty"},
			{m{"a.yaml": def("a", 0)}, "a", "a.yaml=accepted", ""},
		},
		"emptied but for a broken file": {
			{m{"a.yaml": def("a", 0)}, "a", "a.yaml=accepted", ""},
			{m{"a.yaml": broken}, "a", "a.yaml=invalid+", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			for i, s := range steps {
				d := w.scan(s.files)
				if got := defined(d.set); got != s.set {
					t.Errorf("step %d: defines %q, want %q", i, got, s.set)
				}
				if got := status(d.files); got != s.status {
					t.Errorf("step %d: status %q, want %q", i, got, s.status)
				}
				if all := fmt.Sprint(d.files); !strings.Contains(all, s.why) {
					t.Errorf("step %d: nothing says %q in %s", i, s.why, all)
				}
			}
		})
	}
}

func TestGuard(t *testing.T) {
	some := map[string]string{"a.yaml": def("a", 0)}
	gone := found{err: errors.New("/m: no such file or directory")}
	empty, marked := found{}, found{allowEmpty: true}
	for name, c := range map[string]struct {
		before  bool // something was there before
		f       found
		allow   bool
		ready   bool
		set     string
		blocked bool
	}{
		"empty at start":            {false, empty, false, false, "", true},
		"missing at start":          {false, gone, false, false, "", true},
		"missing at start, allowed": {false, gone, true, false, "", true},
		"empty at start, allowed":   {false, empty, true, true, "", false},
		"empty at start, marked":    {false, marked, false, true, "", false},
		"emptied":                   {true, empty, false, true, "a", true},
		"emptied, allowed":          {true, empty, true, true, "", false},
		"emptied, marked":           {true, marked, false, true, "", false},
		"vanished":                  {true, gone, false, true, "a", true},
		"vanished, allowed":         {true, gone, true, true, "a", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			if c.before {
				w.scan(some)
			}
			d := w.take(c.f, c.allow)
			if d.ready != c.ready || defined(d.set) != c.set || (d.problem != "") != c.blocked {
				t.Errorf("ready %v, set %q, problem %q", d.ready, defined(d.set), d.problem)
			}
		})
	}
}

// Whatever people do to the files: what was defined stays defined until a file that is
// there and valid, or the absence of its file, says otherwise; and what counts is always
// free of conflicts.
func TestDecideProperties(t *testing.T) {
	families := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		files := map[string]string{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			before := w.now
			for range rapid.IntRange(1, 3).Draw(t, "edits") {
				name := rapid.SampledFrom([]string{"1.yaml", "2.yaml", "3.yaml", "4.yaml"}).Draw(t, "file")
				switch rapid.IntRange(0, 5).Draw(t, "edit") {
				case 0:
					delete(files, name)
				case 1:
					files[name] = broken
				case 2:
					files[name] = svc(rapid.SampledFrom(families).Draw(t, "service"), rapid.SampledFrom(families).Draw(t, "family"))
				default:
					files[name] = def(rapid.SampledFrom(families).Draw(t, "family"), rapid.IntRange(0, 3).Draw(t, "port"))
					if rapid.Bool().Draw(t, "second") {
						files[name] += "---\n" + svc("s"+name[:1], rapid.SampledFrom(families).Draw(t, "family"))
					}
				}
			}
			d := w.scan(files)

			seen := map[identity]bool{}
			have := map[string]bool{}
			for _, c := range w.now.good {
				for _, id := range c.names {
					if seen[id] {
						t.Fatalf("%s counts twice", id)
					}
					seen[id] = true
				}
			}
			for _, x := range d.set.Definitions {
				have[x.TaskDefinition.Family] = true
			}
			for _, s := range d.set.Services {
				if !have[Family(s.Service.TaskDefinition)] {
					t.Fatalf("service %s has no definition: %s", s.Service.ServiceName, defined(d.set))
				}
			}
			for name, c := range before.good {
				text, there := files[name]
				now := w.now.good[name]
				if there && now == nil {
					t.Fatalf("%s is there and contributes nothing, though it did: %q", name, text)
				}
				if there && now != c && (now == nil || now != w.texts[name+"\x00"+text]) {
					t.Fatalf("%s contributes what is neither its text nor its last good content", name)
				}
			}
			for _, f := range d.files {
				if (f.Status == StatusAccepted) == (len(f.Reasons) > 0) {
					t.Fatalf("%s is %s for %d reasons", f.Path, f.Status, len(f.Reasons))
				}
			}
			// The same scan again changes nothing.
			again := w.scan(files)
			if defined(again.set) != defined(d.set) || again.set.Revision != d.set.Revision {
				t.Fatalf("a second look sees %q after %q", defined(again.set), defined(d.set))
			}
		}
	})
}

func TestFamily(t *testing.T) {
	for ref, want := range map[string]string{
		"web": "web", "web:3": "web", "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:3": "web", "": "", "a b": "", "web:x": "",
	} {
		if got := Family(ref); got != want {
			t.Errorf("Family(%q) = %q, want %q", ref, got, want)
		}
	}
}
