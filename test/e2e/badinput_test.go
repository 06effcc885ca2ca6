package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"ecsd/pkg/spec"
	"ecsd/test/containerdtest"
)

// TestBadInput gives one agent, beside a task that is well, every bad input of
// docs/bad-inputs.md: all are refused in words that name the place, and the task that is
// well stays the same process.
func TestBadInput(t *testing.T) {
	n := badNode(t)
	well := n.keepWell("well")

	t.Run("Manifests", func(t *testing.T) { badManifests(t, n) })
	well.same(t)
	t.Run("Machine", func(t *testing.T) { badForTheMachine(t, n) })
	well.same(t)
	t.Run("SameInOtherWords", func(t *testing.T) { sameInOtherWords(t, n, well) })
	well.same(t)

	n.clear(t, "well.yaml")
	well.same(t)
	n.clear(t)
	if err := n.nothingLeft(); err != nil {
		t.Fatal(err)
	}
}

// badNode is a started node that lets no container be privileged.
func badNode(t *testing.T) *node {
	t.Helper()
	containerdtest.Require(t)
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := newNode(t, containerdtest.Start(t), dir)
	for name, content := range map[string]string{
		n.config():                       "ECS_DISABLE_PRIVILEGED=true\nECS_RESERVED_PORTS=[22,51678]\n",
		n.path("manifests/.allow-empty"): "",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	return n
}

// bystander is a task that has nothing to do with what goes on around it.
type bystander struct {
	node   *node
	family string
	life   string // its task and its process
}

// keepWell starts a task of that family and remembers which process it is.
func (n *node) keepWell(family string) *bystander {
	n.tb.Helper()
	n.write(family+".yaml", manifest(family, "command: [pause]"))
	b := &bystander{node: n, family: family}
	if err := n.until("RUNNING", func() (string, error) { return n.ecsd("ps", "-a") }); err != nil {
		n.tb.Fatal(err)
	}
	b.life = b.look(n.tb)
	return b
}

// containers are those of the family's tasks that have not stopped, each with its task's id.
func (b *bystander) containers(tb testing.TB) (ids []string, all []spec.ContainerStatus) {
	tb.Helper()
	out, err := b.node.ecsd("ps", "--family", b.family, "-o", "json")
	if err != nil {
		tb.Fatal(err)
	}
	var tasks []spec.TaskStatus
	if err := json.Unmarshal([]byte(out), &tasks); err != nil {
		tb.Fatalf("%v in %s", err, out)
	}
	for _, task := range tasks {
		for _, c := range task.Containers {
			ids, all = append(ids, task.TaskID), append(all, c)
		}
	}
	return ids, all
}

// look gives the tasks of the family with their processes and when the kernel says that
// these began.
func (b *bystander) look(tb testing.TB) string {
	tb.Helper()
	ids, containers := b.containers(tb)
	var lives []string
	for i, c := range containers {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.PID))
		_, after, _ := strings.Cut(string(stat), ") ")
		began := "nothing"
		if f := strings.Fields(after); len(f) > 19 {
			began = f[19]
		}
		lives = append(lives, fmt.Sprintf("task %s %s process %d of %s", ids[i], c.LastStatus, c.PID, began))
	}
	return strings.Join(lives, "\n")
}

// commands gives the command lines of the family's processes, as the kernel has them.
func (b *bystander) commands(tb testing.TB) string {
	tb.Helper()
	_, containers := b.containers(tb)
	var all strings.Builder
	for _, c := range containers {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.PID))
		all.Write(append(line, '\n'))
	}
	return all.String()
}

// same fails the test when the bystander is no longer the process it was.
func (b *bystander) same(tb testing.TB) {
	tb.Helper()
	if b.life == "" || !strings.Contains(b.life, "RUNNING") || strings.Contains(b.life, "nothing") {
		tb.Fatalf("the task that was to be watched is %q", b.life)
	}
	if now := b.look(tb); now != b.life {
		tb.Fatalf("the task beside was %s, and is %q", b.life, now)
	}
}

// manifest is a task definition with one container and more lines of it.
func manifest(family string, lines ...string) string {
	return fmt.Sprintf("family: %s\nnetworkMode: none\ncontainerDefinitions:\n- name: main\n  image: $IMAGE\n  memory: 32\n  %s\n",
		family, strings.Join(lines, "\n  "))
}

// clear removes all manifests but some, and waits until no task of them is left.
func (n *node) clear(tb testing.TB, but ...string) {
	tb.Helper()
	files, err := os.ReadDir(n.path("manifests"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(but, f.Name()) && f.Name() != ".allow-empty" {
			if err := os.RemoveAll(n.path("manifests", f.Name())); err != nil {
				tb.Fatal(err)
			}
		}
	}
	err = n.until(fmt.Sprintf("^%d running$", len(but)), func() (string, error) {
		out, err := n.ecsd("ps", "-o", "name")
		return fmt.Sprintf("%d running\n", len(strings.Fields(out))), err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// badManifests puts every file that pkg/spec's golden errors refuse into the directory, all
// at once, and finds exactly those errors in `ecsd status`.
func badManifests(t *testing.T, n *node) {
	archives, _ := filepath.Glob("../../pkg/spec/testdata/errors/*.txtar")
	if len(archives) == 0 {
		t.Skip("SKIPPED: pkg/spec/testdata is not here: the tests run away from their source")
	}
	want := map[string][]string{}
	for _, archive := range archives {
		for name, f := range refusedFiles(t, archive) {
			path := n.path("manifests", strings.TrimSuffix(filepath.Base(archive), ".txtar")+"-"+name)
			if err := os.WriteFile(path, f.data, 0o644); err != nil {
				t.Fatal(err)
			}
			for _, line := range f.errors {
				want[path] = append(want[path], path+strings.TrimPrefix(line, name))
			}
		}
	}
	if len(want) < 100 {
		t.Fatalf("only %d bad files: the golden files are not read rightly", len(want))
	}
	check := func() (string, error) {
		out, err := n.ecsd("status", "-o", "json")
		var status struct {
			Manifests []struct {
				Path, Status string
				Reasons      []string
			}
		}
		if jsonErr := json.Unmarshal([]byte(out), &status); jsonErr != nil {
			return "", fmt.Errorf("%w: %w", jsonErr, err)
		}
		if err == nil {
			return "", fmt.Errorf("ecsd status succeeds with refused files")
		}
		got := map[string][]string{}
		for _, f := range status.Manifests {
			if f.Status == "invalid" {
				got[f.Path] = f.Reasons
			}
		}
		var wrong []string
		for path, lines := range want {
			if !slices.Equal(lines, got[path]) {
				wrong = append(wrong, fmt.Sprintf("%s:\n  want %q\n  got  %q", path, lines, got[path]))
			}
		}
		slices.Sort(wrong)
		return strings.Join(wrong, "\n"), nil
	}
	if err := n.until(`\A\z`, check); err != nil {
		t.Fatal(err)
	}
	// Exactly the two words that the table leads with.
	out, _ := n.ecsd("status")
	if !regexp.MustCompile(`(?m)01-empty-empty\.yaml +invalid .*is empty: it must hold`).MatchString(out) {
		t.Errorf("ecsd status says\n%s", out)
	}
	t.Logf("%d bad files are refused, each for its reasons", len(want))
	n.clear(t, "well.yaml")
}

// badFile is a file that cannot be accepted, and what is said about it.
type badFile struct {
	data   []byte
	errors []string
}

func refusedFiles(t *testing.T, archive string) map[string]badFile {
	t.Helper()
	a, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]badFile{}
	for _, f := range a.Files {
		files[f.Name] = badFile{data: f.Data}
	}
	for line := range strings.Lines(string(files["errors"].data)) {
		name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		f := files[name]
		if rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			f.errors = append(f.errors, name+":"+rest)
			files[name] = f
		}
	}
	for name, f := range files {
		if len(f.errors) == 0 {
			delete(files, name)
		}
	}
	return files
}

// badForTheMachine are definitions that can be read, and that this machine or their image
// cannot carry out. All are given at once: none holds up another.
func badForTheMachine(t *testing.T, n *node) {
	taken, err := net.Listen("tcp", "0.0.0.0:18999")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := unix.Mkfifo(n.path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := n.path("file")
	if err := os.WriteFile(file, []byte("of the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, definition, says string
	}{
		{"port-22", port(22), `needs host port 22/tcp, which is reserved on this host`},
		{"port-51678", port(51678), `needs host port 51678/tcp, which is reserved on this host`},
		{"port-taken", port(18999), `18999`},
		{"memory-huge", strings.Replace(manifest("x", "command: [pause]"), "memory: 32", "memory: 1073741824", 1), `MiB of memory, which can never fit`},
		{"cpu-huge", manifest("x", "cpu: 196608"), `CPU units, which can never fit`},
		{"user-missing", manifest("x", "user: nosuchuser"), `CannotStartContainerError: .*nosuchuser`},
		{"group-missing", manifest("x", `user: "0:nosuchgroup"`), `CannotStartContainerError: .*nosuchgroup`},
		{"privileged", manifest("x", "privileged: true"), `CannotCreateContainerError: .*privileged.*ECS_DISABLE_PRIVILEGED`},
		{"device", manifest("x", "linuxParameters: {devices: [{hostPath: /dev/no-such-device}]}"), `/dev/no-such-device`},
		{"device-file", manifest("x", "linuxParameters: {devices: [{hostPath: /etc/passwd}]}"), `/etc/passwd`},
		{"sysctl", manifest("x", "systemControls: [{namespace: net.ipv4.no_such_setting, value: '1'}]"), `CannotStartContainerError: .*no_such_setting`},
		{"sysctl-value", manifest("x", "systemControls: [{namespace: net.ipv4.ip_forward, value: lots}]"), `CannotStartContainerError: .*ip_forward`},
		{"volume-file", volume(file, "/"+"etc"), `CannotStartContainerError: .*not a directory`},
		{"volume-below-file", volume(file+"/below", "/mnt"), `CannotStartContainerError: .*/file/below: not a directory`},
		{"volume-proc", volume("/proc/nothing", "/mnt"), `CannotCreateContainerError: .*/proc/nothing`},
		{"entry-missing", manifest("x", "entryPoint: [/no/such/file]"), `CannotStartContainerError: .*/no/such/file`},
		{"entry-plain", manifest("x", "entryPoint: [/etc/not-executable]"), `CannotStartContainerError: .*permission denied`},
		{"entry-directory", manifest("x", "entryPoint: [/etc]"), `CannotStartContainerError: .*(permission denied|is a directory)`},
		{"image-digest", strings.Replace(manifest("x"), "$IMAGE", "$IMAGE@sha256:"+strings.Repeat("0", 64), 1), `CannotPullContainerError: .*pinned to`},
		{"image-archive", strings.Replace(manifest("x"), "$IMAGE", "oci-archive:"+file, 1), `CannotPullContainerError: .*not an image archive`},
		{"image-fifo", strings.Replace(manifest("x"), "$IMAGE", "oci-archive:"+n.path("fifo"), 1), `CannotPullContainerError: .*not a regular file`},
	}
	for _, c := range cases {
		n.write(c.name+".yaml", strings.Replace(c.definition, "family: x", "family: "+c.name, 1))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := n.until(c.says, func() (string, error) { return n.ecsd("describe", "--all", c.name) }); err != nil {
				t.Error(err)
			}
			out, _ := n.ecsd("describe", "--all", c.name)
			t.Log(regexp.MustCompile("(?m)^.*(?:" + c.says + ").*$").FindString(out))
		})
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != "of the host\n" {
		t.Errorf("the host's file is %q, %v", now, err)
	}
	n.clear(t, "well.yaml")
}

func port(number int) string {
	return strings.Replace(manifest("x", fmt.Sprintf("portMappings: [{containerPort: 80, hostPort: %d}]", number)), "networkMode: none", "networkMode: bridge", 1)
}

func volume(source, target string) string {
	return fmt.Sprintf("volumes: [{name: v, host: {sourcePath: %q}}]\n", source) +
		manifest("x", fmt.Sprintf("mountPoints: [{sourceVolume: v, containerPath: %s}]", target))
}

// sameInOtherWords changes all of a manifest but its meaning, a thousand times: the task
// goes on. Then it changes the meaning, and the last word counts.
func sameInOtherWords(t *testing.T, n *node, well *bystander) {
	for i := range 1000 {
		n.write("well.yaml", fmt.Sprintf("# edit %d\ncontainerDefinitions: [{command: [pause], memory: 32, image: $IMAGE, name: main}]\nnetworkMode: none\nfamily: well\n", i))
	}
	if err := n.until(`well.yaml +accepted`, func() (string, error) { return n.ecsd("status") }); err != nil {
		t.Fatal(err)
	}
	well.same(t)
	n.write("last.yaml", manifest("last", "command: [pause]"))
	for i := range 1000 {
		n.write("last.yaml", manifest("last", fmt.Sprintf("command: [pause, '%d']", i)))
	}
	last := &bystander{node: n, family: "last"}
	if err := n.until(`pause\x00999\x00`, func() (string, error) { return last.commands(t), nil }); err != nil {
		t.Error(err)
	}
}
