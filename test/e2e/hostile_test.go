package e2e

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"ecsd/test/ociimage"
	"ecsd/test/testimage"
)

// TestHostile runs images and containers that mean harm, beside a task that is well: what
// they try is in vain or their own loss, is said in words, and leaves nothing.
func TestHostile(t *testing.T) {
	n := badNode(t)
	well := n.keepWell("well")

	t.Run("Images", func(t *testing.T) { hostileImages(t, n) })
	well.same(t)
	t.Run("Containers", func(t *testing.T) { hostileContainers(t, n) })
	well.same(t)
	t.Run("Left", func(t *testing.T) { leftChildren(t, n) })
	well.same(t)
	t.Run("Logs", func(t *testing.T) { hostileLogs(t, n) })
	well.same(t)

	n.clear(t)
	if err := n.nothingLeft(); err != nil {
		t.Fatal(err)
	}
}

// innocent is what a file of the host holds, before and after.
const innocent = "of the host\n"

// hostileImage is an image, what is run of it, and what must come of that.
type hostileImage struct {
	name    string
	layers  [][]ociimage.Entry
	config  func(*v1.ConfigFile)
	command string // the definition's; "" is pause, "-" none
	says    string // by `ecsd describe --all`
	prints  string // by `ecsd logs`
}

// hostileImages are images whose layers and configurations reach for the host.
func hostileImages(t *testing.T, n *node) {
	host := n.path("host")
	for name, content := range map[string]string{"passwd": "intruder:x:4242:4242::/:/\n", "innocent": innocent} {
		if err := os.MkdirAll(host, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(host, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	up := strings.Repeat("../", 40)
	box := boxEntry(t)
	cases := []hostileImage{
		{
			name:   "passwd-linked-to-host",
			layers: [][]ociimage.Entry{{box, link("etc/passwd", host+"/passwd"), link("etc/group", up+host[1:]+"/passwd")}},
			config: func(c *v1.ConfigFile) { c.Config.User = "intruder" },
			says:   `CannotStartContainerError: image: unable to find user intruder`,
		},
		{
			name:    "files-through-an-absolute-link",
			layers:  [][]ociimage.Entry{{box, link("trap", host)}, {file("trap/innocent", "overwritten"), file("trap/new", "x")}},
			command: "cat, /trap/innocent", prints: `^overwritten$`,
		},
		{
			name:    "files-through-a-relative-link",
			layers:  [][]ociimage.Entry{{box, link("trap", up+host[1:])}, {file("trap/innocent", "overwritten")}},
			command: "cat, /trap/innocent", prints: `^overwritten$`,
		},
		{
			name:    "names-with-dots",
			layers:  [][]ociimage.Entry{{box, file(up+host[1:]+"/innocent", "overwritten")}},
			command: "cat, /" + host[1:] + "/innocent", prints: `^overwritten$`,
		},
		{
			name:   "hard-link-to-host",
			layers: [][]ociimage.Entry{{box, hardlink("stolen", up+host[1:]+"/passwd")}},
			says:   `CannotPullContainerError: .*stolen: no such file or directory`,
		},
		{
			name:   "hard-link-through-a-link",
			layers: [][]ociimage.Entry{{box, link("trap", host)}, {hardlink("stolen", "trap/passwd")}},
			says:   `CannotPullContainerError: .*stolen: no such file or directory`,
		},
		{
			name:    "whiteout-through-a-link",
			layers:  [][]ociimage.Entry{{box, link("trap", host)}, {file("trap/.wh.innocent", ""), file("trap/.wh..wh..opq", "")}},
			command: "pause", says: `^ +[0-9a-f]{12} .*RUNNING`,
		},
		{
			name:    "whiteout-of-what-is-above",
			layers:  [][]ociimage.Entry{{box, file("a/b", "")}, {file("a/.wh...", ""), file(".wh..", ""), file(".wh...", "")}},
			command: "pause", says: `CannotPullContainerError: .*a layer of it cannot be unpacked.*whiteout`,
		},
		{
			name: "device-nodes",
			layers: [][]ociimage.Entry{{box, {Header: tar.Header{Typeflag: tar.TypeChar, Name: "kmsg", Mode: 0o666, Devmajor: 1, Devminor: 11}},
				{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o666, Devmajor: 7, Devminor: 0}}}},
			command: "read, /kmsg", prints: `failed: operation not permitted`,
		},
		{
			name:    "set-uid",
			layers:  [][]ociimage.Entry{{box, {Header: tar.Header{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o4755, Uid: 0}, Data: box.Data}}},
			config:  func(c *v1.ConfigFile) { c.Config.Entrypoint, c.Config.User = []string{"/suid"}, "1000" },
			command: "status, CapEff", prints: `00000000a80425fb`, // root in the container, with no more than its bounding set
		},
		{
			name:    "many-files",
			layers:  [][]ociimage.Entry{append([]ociimage.Entry{box}, manyFiles(5000)...)},
			command: "exists, /many/49/99", says: `Exit code: +0`,
		},
		{
			name:   "another-architecture",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.Architecture = "s390x" },
			says:   `CannotPullContainerError: .*the image is for linux/s390x, this machine is linux/`,
		},
		{
			name:   "another-system",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.OS = "windows" },
			says:   `CannotPullContainerError: .*windows`,
		},
		{
			name:   "no-entry-point",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.Config.Entrypoint, c.Config.Cmd = nil, nil },
			says:   `CannotCreateContainerError: containerDefinitions\[0\].command: no command specified`, command: "-",
		},
		{
			name:   "volume-root",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.Config.Volumes = map[string]struct{}{"/": {}} },
			says:   `CannotCreateContainerError: image: invalid volume specification: '/'`,
		},
		{
			name:   "user-unknown",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.Config.User = "nobodyatall" },
			says:   `CannotStartContainerError: image: unable to find user nobodyatall`,
		},
		{
			name:   "entry-not-executable",
			layers: [][]ociimage.Entry{{box, file("plain", "text")}},
			config: func(c *v1.ConfigFile) { c.Config.Entrypoint = []string{"/plain"} },
			says:   `CannotStartContainerError: exec: "/plain": permission denied`,
		},
		{
			name:   "entry-missing",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.Config.Entrypoint = []string{"nothing"} },
			says:   `CannotStartContainerError: exec: "nothing": executable file not found in \$PATH`,
		},
		{
			name:   "script-without-shebang",
			layers: [][]ociimage.Entry{{box, {Header: tar.Header{Typeflag: tar.TypeReg, Name: "run.sh", Mode: 0o755}, Data: []byte("echo hello\n")}}},
			config: func(c *v1.ConfigFile) { c.Config.Entrypoint = []string{"/run.sh"} },
			prints: `exec /run\.sh: exec format error`, command: "-",
		},
		{
			name:   "interpreter-missing",
			layers: [][]ociimage.Entry{{box, {Header: tar.Header{Typeflag: tar.TypeReg, Name: "run.sh", Mode: 0o755}, Data: []byte("#!/bin/sh\necho hello\n")}}},
			config: func(c *v1.ConfigFile) { c.Config.Entrypoint = []string{"/run.sh"} },
			prints: `exec /run\.sh: no such file or directory`, command: "-",
		},
		{
			name:   "variable-with-nul",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.Config.Env = []string{"A=b\x00c"} },
			says:   `CannotCreateContainerError: image: variable "A" contains a NUL byte`,
		},
		{
			name:   "entry-with-nul",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.Config.Entrypoint = []string{"/test\x00box"} },
			says:   `contains a NUL byte`,
		},
		{
			name:   "variable-of-1-MB",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.Config.Env = []string{"A=" + strings.Repeat("x", 1<<20)} },
			says:   `CannotStartContainerError: image: argument list too long: variable "A" has 1048578 bytes`,
		},
		{
			name:   "many-variables",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) {
				for i := range 40 {
					c.Config.Env = append(c.Config.Env, fmt.Sprintf("A%d=%s", i, strings.Repeat("x", 100_000)))
				}
			},
			prints: `exec /testbox: argument list too long`,
		},
		{
			name:   "working-directory",
			layers: [][]ociimage.Entry{{box}},
			config: func(c *v1.ConfigFile) { c.Config.WorkingDir = "/proc/self/fd/8" },
			says:   `CannotStartContainerError: image: the working directory /proc/self/fd/8 is a file descriptor`,
		},
	}
	for _, c := range cases {
		definition := strings.Replace(manifest(c.name, "# more"), "$IMAGE", testimage.Scheme+c.save(t, n), 1)
		switch c.command {
		case "":
			definition = strings.Replace(definition, "# more", "command: [pause]", 1)
		case "-":
		default:
			definition = strings.Replace(definition, "# more", "command: ["+c.command+"]", 1)
		}
		n.write(c.name+".yaml", definition)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.says != "" {
				n.expect(t, c.says, "describe", "--all", c.name)
			}
			if c.prints != "" {
				n.expect(t, c.prints, "logs", c.name)
			}
		})
	}
	if have, err := os.ReadFile(filepath.Join(host, "innocent")); err != nil || string(have) != innocent {
		t.Errorf("the host's file is %q, %v", have, err)
	}
	if list, err := os.ReadDir(host); err != nil || len(list) != 2 {
		t.Errorf("the host's directory holds %v, %v", list, err)
	}
	n.clear(t, "well.yaml")
}

func file(name, content string) ociimage.Entry {
	return ociimage.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, Data: []byte(content)}
}

func link(name, to string) ociimage.Entry {
	return ociimage.Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}}
}

func hardlink(name, to string) ociimage.Entry {
	return ociimage.Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644}}
}

func manyFiles(count int) []ociimage.Entry {
	entries := make([]ociimage.Entry, count)
	for i := range entries {
		entries[i] = file(fmt.Sprintf("many/%d/%d", i/100, i%100), "x")
	}
	return entries
}

// boxEntry is testbox as an entry of a layer.
func boxEntry(t *testing.T) ociimage.Entry {
	t.Helper()
	code, err := os.ReadFile(testimage.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	return ociimage.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "testbox", Mode: 0o755}, Data: code}
}

// save writes the image as an archive and returns its path.
func (h hostileImage) save(t *testing.T, n *node) string {
	t.Helper()
	image, err := ociimage.Build(nil, testimage.Config())
	for _, layer := range h.layers {
		if err == nil {
			image, err = ociimage.Raw(image, layer...)
		}
	}
	if err == nil && h.config != nil {
		image, err = ociimage.Configured(image, h.config)
	}
	path := n.path(h.name + ".tar")
	if err == nil {
		err = ociimage.Save(image, path, "hostile")
	}
	if err != nil {
		t.Fatalf("make the image %s: %v", h.name, err)
	}
	return path
}

// expect waits until ecsd prints what matches, on either stream, and logs the line.
func (n *node) expect(t *testing.T, pattern string, args ...string) {
	t.Helper()
	var last string
	if err := n.until(pattern, func() (string, error) {
		cmd := exec.Command(filepath.Join(binDir(t), "ecsd"), args...)
		cmd.Env, cmd.Dir = n.env, n.dir
		out, err := cmd.CombinedOutput()
		last = string(out)
		return last, err
	}); err != nil {
		t.Error(err)
		return
	}
	t.Log(strings.TrimSpace(regexp.MustCompile("(?m)^.*(?:" + pattern + ").*$").FindString(last)))
}

// hostileContainers run in one task of their own: what each tries concerns nobody else.
func hostileContainers(t *testing.T, n *node) {
	procs := "/sys/fs/cgroup/cgroup.procs"
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil { // v1: a directory a controller
		procs = "/sys/fs/cgroup/memory/cgroup.procs"
	}
	attempts := []struct{ name, command, prints string }{
		{"shm", "fill, /dev/shm, '100'", `wrote 8192 KiB, then: .*no space left on device`},
		{"files", "open, '1000000'", `opened 10[0-9]+, then: .*too many open files`},
		{"cgroup", "write, " + procs + ", '1'", `read-only file system`},
		{"remount", "remount, /proc/sys", `failed: operation not permitted`},
		{"mount", "mkfs", `failed: operation not permitted`},
		{"core", "write, /proc/sys/kernel/core_pattern, x", `read-only file system`},
		{"kill", "kill, '1'", `done`}, // pid 1 is itself, and deaf to it
	}
	var b strings.Builder
	b.WriteString("family: attempts\nnetworkMode: none\ncontainerDefinitions:\n- {name: main, image: $IMAGE, memory: 32, command: [pause]}\n")
	for _, a := range attempts {
		fmt.Fprintf(&b, "- name: %s\n  image: $IMAGE\n  memory: 64\n  essential: false\n  stopTimeout: 1\n  ulimits: [{name: nofile, softLimit: 1024, hardLimit: 1024}]\n"+
			"  linuxParameters: {sharedMemorySize: 8}\n  command: [%s]\n", a.name, a.command)
	}
	n.write("attempts.yaml", b.String())
	if n.expect(t, `attempts.yaml +accepted`, "status"); t.Failed() {
		return
	}
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) { n.expect(t, a.prints, "logs", "attempts/"+a.name) })
	}
	n.clear(t, "well.yaml")
}

// leftChildren end their first process while others of theirs run on, with sessions of
// their own, deaf to SIGTERM. With the container they end, whosever pid namespace they are in.
func leftChildren(t *testing.T, n *node) {
	for _, mode := range []string{"container", "task", "host"} {
		line := "pidMode: " + mode + "\n"
		if mode == "container" { // its own pid namespace: ECS has no word for it
			line = ""
		}
		n.write(mode+".yaml", line+manifest(mode+"-children", "stopTimeout: 1", "command: [orphans, '20']"))
	}
	for _, mode := range []string{"container", "task", "host"} {
		t.Run(mode, func(t *testing.T) {
			n.expect(t, `Essential container in task exited; main: exit code 7`, "describe", "--all", mode+"-children")
		})
	}
	n.clear(t, "well.yaml")
	if err := n.until(`^$`, func() (string, error) { return strings.Join(n.processes("ignore"), "\n"), nil }); err != nil {
		t.Error(err)
	}
}

// processes are those that run a command of testbox in the node's control groups.
func (n *node) processes(command string) (found []string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		line, err := os.ReadFile(file)
		groups, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cgroup"))
		if err == nil && strings.Contains(string(line), "\x00"+command) && strings.Contains(string(groups), n.cgroup()+"/") {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// cgroup is the parent of all control groups of the node's tasks.
func (n *node) cgroup() string { return fmt.Sprintf("/ecs-e2e-%d-%d", os.Getpid(), n.number) }

// hostileLogs print what would command a terminal, and a line longer than anybody reads.
func hostileLogs(t *testing.T, n *node) {
	const nasty = `"\e]0;owned\a\e[2J\e[1;31mred\e[0m \e]8;;http://evil.example\e\\click\e]8;;\e\\ safe\rhidden \u202egnp.exe"`
	n.write("nasty.yaml", "family: nasty\nnetworkMode: none\ncontainerDefinitions:\n"+
		"- {name: main, image: $IMAGE, memory: 32, command: [pause]}\n"+
		"- {name: print, image: $IMAGE, memory: 32, essential: false, command: [echo, "+nasty+"]}\n"+
		"- {name: long, image: $IMAGE, memory: 128, essential: false, command: [lines, '1', '10485760']}\n"+
		"- {name: fault, image: $IMAGE, memory: 32, essential: false, entryPoint: ["+nasty+"]}\n")
	t.Run("pipe", func(t *testing.T) { // a pipe gets what was printed
		n.expect(t, regexp.QuoteMeta("\x1b]0;owned\a\x1b[2J\x1b[1;31mred\x1b[0m \x1b]8;;http://evil.example\x1b\\click"), "logs", "nasty/print")
	})
	t.Run("terminal", func(t *testing.T) {
		out := n.terminal(t, "logs", "nasty/print")
		if commands.MatchString(out) || !strings.Contains(out, "safe^Mhidden") || !strings.Contains(out, "\x1b[1;31mred") {
			t.Errorf("a terminal is told %q", out)
		}
	})
	t.Run("describe", func(t *testing.T) {
		ids, _ := (&bystander{node: n, family: "nasty"}).containers(t)
		n.expect(t, `CannotStartContainerError: .*owned`, "describe", ids[0])
		for _, args := range [][]string{{"describe", ids[0]}, {"describe", "nasty"}, {"events"}, {"ps", "-o", "wide"}, {"status"}} {
			if out := n.terminal(t, args...); commands.MatchString(out) {
				t.Errorf("ecsd %v tells a terminal %q", args, out)
			}
		}
	})
	t.Run("long", func(t *testing.T) {
		var size int
		err := n.until(`^10485761$`, func() (string, error) {
			out, err := n.ecsd("logs", "nasty/long")
			size = len(out)
			return fmt.Sprint(size), err
		})
		if err != nil {
			t.Error(err)
		}
	})
	n.clear(t, "well.yaml")
}

// commands are the escape sequences that do more to a terminal than colour it.
var commands = regexp.MustCompile("\x1b\\]|\x1b\\[[0-9;]*[A-LN-Za-ln-z]|\a|\r[^\n]|\u202e")

// terminal gives what ecsd prints on a terminal.
func (n *node) terminal(t *testing.T, args ...string) string {
	t.Helper()
	host, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	number, err := unix.IoctlGetInt(int(host.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(host.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	guest, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	printed := make(chan string)
	go func() {
		out, _ := io.ReadAll(host) // ends with an error when the other end is closed
		printed <- string(out)
	}()
	cmd := exec.Command(filepath.Join(binDir(t), "ecsd"), args...)
	cmd.Env, cmd.Dir = append(n.env, "TERM=xterm"), n.dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = guest, guest, guest
	err = cmd.Run()
	_ = guest.Close()
	out := <-printed
	if err != nil {
		t.Fatalf("ecsd %v: %v\n%s", args, err, out)
	}
	return out
}

// TestSlowManyFiles runs an image of a million files beside a task that is well: it takes
// its time, and nobody else's.
func TestSlowManyFiles(t *testing.T) {
	if os.Getenv("ECSD_TEST_SLOW") == "" {
		t.Skip("SKIPPED: takes minutes: make test-slow")
	}
	n := badNode(t)
	well := n.keepWell("well")
	entries := make([]ociimage.Entry, 1_000_000)
	for i := range entries {
		entries[i] = file(fmt.Sprintf("many/%d/%d", i/1000, i%1000), "")
	}
	h := hostileImage{name: "million", layers: [][]ociimage.Entry{{boxEntry(t)}, entries}}
	n.write("million.yaml", strings.Replace(manifest("million", "command: [exists, /many/999/999]"), "$IMAGE", testimage.Scheme+h.save(t, n), 1))
	for tries := 10; ; tries-- { // each of them as long as any other wait
		err := n.until(`Exit code: +0`, func() (string, error) { return n.ecsd("describe", "--all", "million") })
		well.same(t)
		if err == nil {
			break
		}
		if tries == 0 {
			t.Fatal(err)
		}
	}
	n.clear(t)
	if err := n.nothingLeft(); err != nil {
		t.Fatal(err)
	}
}
