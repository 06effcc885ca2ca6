package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"pgregory.net/rapid"

	"ecsd/pkg/localapi"
	"ecsd/pkg/logs"
	"ecsd/pkg/spec"
)

func TestExitCodes(t *testing.T) {
	for err, want := range map[error]int{
		nil:                                    0,
		errors.New("x"):                        1,
		&exitError{3, ""}:                      3,
		fmt.Errorf("a: %w", &exitError{2, ""}): 2,
		context.Canceled:                       130,
		context.DeadlineExceeded:               124,
		errdefs.ErrNotFound:                    4,
		&localapi.Error{Code: localapi.CodeInvalid}:     2,
		&localapi.Error{Code: localapi.CodeAmbiguous}:   2,
		&localapi.Error{Code: localapi.CodeNotFound}:    4,
		&localapi.Error{Code: localapi.CodeUnavailable}: 5,
		&localapi.Error{Code: localapi.CodeDenied}:      6,
		&localapi.Error{Code: localapi.CodeConflict}:    7,
		&localapi.Error{Code: localapi.CodeTimeout}:     124,
		&localapi.Error{Code: localapi.CodeInternal}:    1,
	} {
		if got := exitCode(err); got != want {
			t.Errorf("exitCode(%v) = %d, want %d", err, got, want)
		}
	}
	if message(context.Canceled) != "" || message(&exitError{3, ""}) != "" {
		t.Error("an interrupt, or an error that was told, is told again")
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 150 * time.Second: "2m30s", 11*time.Minute + 3*time.Second: "11m",
		119 * time.Minute: "119m", 2*time.Hour + 5*time.Minute: "2h5m", 9*time.Hour + 5*time.Minute: "9h", 47 * time.Hour: "47h", 49 * time.Hour: "2d", 9000 * time.Hour: "375d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	task := spec.TaskStatus{Containers: []spec.ContainerStatus{{NetworkBindings: []spec.NetworkBinding{
		{BindIP: "0.0.0.0", ContainerPort: 80, HostPort: 8080, Protocol: "tcp"},
		{BindIP: "::", ContainerPort: 80, HostPort: 8080, Protocol: "tcp"},
		{BindIP: "0.0.0.0", ContainerPort: 53, HostPort: 53, Protocol: "udp"},
		{ContainerPortRange: "9000-9002", HostPortRange: "32768-32770", Protocol: "tcp"},
		{BindIP: "fd00::1", ContainerPort: 1, HostPort: 2, Protocol: "tcp"},
	}}}}
	if got, want := ports(task, false), "8080->80/tcp, 53->53/udp, 32768-32770->9000-9002/tcp, [fd00::1]:2->1/tcp"; got != want {
		t.Errorf("short: %s, want %s", got, want)
	}
	if got, want := ports(task, true), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 0.0.0.0:53->53/udp, 32768-32770->9000-9002/tcp, [fd00::1]:2->1/tcp"; got != want {
		t.Errorf("full: %s, want %s", got, want)
	}
}

func TestClean(t *testing.T) {
	for s, want := range map[string]string{
		"plain ünïcode 世界":  "plain ünïcode 世界",
		"a\x1b[31mred":      `a\x1b[31mred`,
		"two\nlines\tand\r": "two lines and ",
		"\xff\x80":          `\xff\x80`,
		"rtl\u202e.exe":     `rtl\u202e.exe`,
		"\u009bcsi":         `\u009bcsi`,
		"zero\u200bwidth":   `zero\u200bwidth`,
	} {
		if got := clean(s); got != want {
			t.Errorf("clean(%q) = %q, want %q", s, got, want)
		}
	}
}

// TestCleanProperties is no fuzz target: one in this package would rebuild everything that
// the command is made of.
func TestCleanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte("\x1b\xe2\x80\xae[31m\xc2\x9b")))).Draw(t, "s"))
		got := clean(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unprintable) {
			t.Fatalf("clean(%q) = %q", s, got)
		}
		if again := clean(got); again != got {
			t.Fatalf("clean(%q) = %q, and of that %q", s, got, again)
		}
	})
}

func TestTable(t *testing.T) {
	tb := newTable("NAME", "STATUS", "X")
	tb.add("ünï", "", "1")
	tb.add("a long name", "evil\nrow", "")
	var b bytes.Buffer
	if err := tb.print(&b, "  "); err != nil {
		t.Fatal(err)
	}
	want := "  NAME          STATUS     X\n  ünï           -          1\n  a long name   evil row   -\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestFind(t *testing.T) {
	n := node{
		tasks: []spec.TaskStatus{
			{TaskID: "db00", Family: "web", Service: "db"}, {TaskID: "dc11", Family: "web"}, {TaskID: "beef", Family: "dc"},
		},
		services: []spec.ServiceStatus{{ServiceName: "db"}, {ServiceName: "task"}},
	}
	all := []string{kindService, kindTask, kindFamily}
	for arg, want := range map[string]string{
		"db":        "service/db", // a service's name wins over the beginning of an id
		"task/db":   "task/db00",
		"db0":       "task/db00",
		"dc":        "task/dc11", // an id wins over a family
		"family/dc": "family/dc",
		"web":       "family/web",
		"task":      "service/task",
		"arn:aws:ecs:local:000000000000:task/default/beef": "task/beef",
		"arn:aws:ecs:local:000000000000:service/db":        "service/db",
		"d":         "Ambiguous",
		"nobody":    "NotFound",
		"":          "NotFound",
		"service/x": "NotFound",
	} {
		got, err := n.find(arg, all...)
		have := got.kind + "/" + got.name
		if err != nil {
			have = localapi.CodeOf(err)
		}
		if have != want {
			t.Errorf("find(%q) = %s, want %s", arg, have, want)
		}
	}
	if _, err := n.find("web", kindService, kindTask); localapi.CodeOf(err) != localapi.CodeNotFound {
		t.Errorf("a family was found where none is taken: %v", err)
	}
	if x, c, err := logTarget(n, "db/app"); err != nil || x.name != "db" || c != "app" {
		t.Errorf("logTarget(db/app) = %+v, %q, %v", x, c, err)
	}
	if x, c, err := logTarget(n, "service/db/app"); err != nil || x.name != "db" || c != "app" {
		t.Errorf("logTarget(service/db/app) = %+v, %q, %v", x, c, err)
	}
}

func lines(fail error, seconds ...int) iter.Seq2[logs.Line, error] {
	return func(yield func(logs.Line, error) bool) {
		for _, s := range seconds {
			if !yield(logs.Line{Time: time.Unix(int64(s), 0), Text: []byte(fmt.Sprint(s))}, nil) {
				return
			}
		}
		if fail != nil {
			yield(logs.Line{}, fail)
		}
	}
}

func TestMerge(t *testing.T) {
	m := &merge{}
	for i, l := range []iter.Seq2[logs.Line, error]{lines(nil, 1, 5, 4, 9), lines(nil), lines(nil, 2, 2, 8)} {
		if err := m.add(stream{container: fmt.Sprint(i)}, l); err != nil {
			t.Fatal(err)
		}
	}
	got := ""
	for {
		s, l, err := m.next()
		if errors.Is(err, errMerged) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got += s.container + ":" + string(l.Text) + " "
	}
	if want := "0:1 2:2 2:2 0:5 0:4 2:8 0:9 "; got != want {
		t.Errorf("merged %s, want %s", got, want)
	}
	failure := errors.New("cut off")
	if err := m.add(stream{}, lines(failure)); !errors.Is(err, failure) {
		t.Errorf("a log that begins with an error: %v", err)
	}
	if err := m.add(stream{}, lines(failure, 1)); err != nil {
		t.Fatal(err)
	}
	if _, l, err := m.next(); !errors.Is(err, failure) || string(l.Text) != "1" {
		t.Errorf("a log that ends in an error: %q, %v", l.Text, err)
	}
}

func TestLogPrinter(t *testing.T) {
	var out, errOut bytes.Buffer
	p := newLogPrinter(&out, &errOut, true, func(s stream) string { return s.container })
	a, b := stream{container: "a"}, stream{container: "b"}
	at := time.Unix(0, 5).UTC()
	for _, x := range []struct {
		s stream
		l logs.Line
	}{
		{a, logs.Line{Time: at, Stream: "stdout", Text: []byte("one"), More: true}},
		{a, logs.Line{Time: at, Stream: "stdout", Text: []byte(" line")}},
		{a, logs.Line{Time: at, Stream: "stderr", Text: []byte("oops")}},
		{a, logs.Line{Time: at, Stream: "stdout", Text: []byte("cut"), More: true}},
		{b, logs.Line{Stream: "stdout", Text: []byte("\x1b[2J raw"), Gap: true}},
	} {
		if err := p.print(x.s, x.l); err != nil {
			t.Fatal(err)
		}
	}
	const stamp = "1970-01-01T00:00:00.000000005Z "
	want := "a | " + stamp + "one line\na | " + stamp + "cut\necsd: lines are missing here: the log was rotated away before it was read\nb | \x1b[2J raw\n"
	if out.String() != want || errOut.String() != "a | "+stamp+"oops\n" {
		t.Errorf("stdout %q, stderr %q", out.String(), errOut.String())
	}
}
