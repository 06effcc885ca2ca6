package e2e

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
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

// secret is what no container may ever print, and innocent what none may change.
const (
	secret   = "the host's secret"
	innocent = "of the host\n"
)

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
	for name, content := range map[string]string{"passwd": "intruder:x:4242:4242:" + secret + ":/:/\n", "innocent": innocent} {
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
			command: "exists, /" + host[1:] + "/innocent", says: `STOPPED`,
		},
		{
			name:   "hard-link-to-host",
			layers: [][]ociimage.Entry{{box, hardlink("stolen", up+host[1:]+"/passwd")}},
			says:   `CannotPullContainerError: .*stolen|no such file`,
		},
		{
			name:   "hard-link-through-a-link",
			layers: [][]ociimage.Entry{{box, link("trap", host)}, {hardlink("stolen", "trap/passwd")}},
			says:   `CannotPullContainerError: .*passwd|no such file`,
		},
		{
			name:    "whiteout-through-a-link",
			layers:  [][]ociimage.Entry{{box, link("trap", host)}, {file("trap/.wh.innocent", ""), file("trap/.wh..wh..opq", "")}},
			command: "pause", says: `RUNNING`,
		},
		{
			name:    "whiteout-of-what-is-above",
			layers:  [][]ociimage.Entry{{box, file("a/b", "")}, {file("a/.wh...", ""), file(".wh..", ""), file(".wh...", "")}},
			command: "pause", says: `CannotPullContainerError|RUNNING`,
		},
		{
			name: "device-nodes",
			layers: [][]ociimage.Entry{{box, {Header: tar.Header{Typeflag: tar.TypeChar, Name: "kmsg", Mode: 0o666, Devmajor: 1, Devminor: 11}},
				{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o666, Devmajor: 7, Devminor: 0}}}},
			command: "cat, /kmsg", prints: `operation not permitted`,
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
			command: "exists, /many/49/99", says: `exit(ed with)? code:? +0|RUNNING|Exit code: +0`,
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
			says:   `CannotStartContainerError: .*exec format error`,
		},
		{
			name:   "interpreter-missing",
			layers: [][]ociimage.Entry{{box, {Header: tar.Header{Typeflag: tar.TypeReg, Name: "run.sh", Mode: 0o755}, Data: []byte("#!/bin/sh\necho hello\n")}}},
			config: func(c *v1.ConfigFile) { c.Config.Entrypoint = []string{"/run.sh"} },
			says:   `CannotStartContainerError: .*no such file or directory`,
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
			says: `CannotStartContainerError: .*argument list too long`,
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
	for name, want := range map[string]string{"innocent": innocent} {
		if have, err := os.ReadFile(filepath.Join(host, name)); err != nil || string(have) != want {
			t.Errorf("the host's file %s is %q, %v", name, have, err)
		}
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

// expect waits until ecsd prints what matches, and logs the line.
func (n *node) expect(t *testing.T, pattern string, args ...string) {
	t.Helper()
	var last string
	if err := n.until(pattern, func() (out string, err error) { last, err = n.ecsd(args...); return last, err }); err != nil {
		t.Error(err)
		return
	}
	t.Log(strings.TrimSpace(regexp.MustCompile("(?m)^.*(?:" + pattern + ").*$").FindString(last)))
}

func hostileContainers(t *testing.T, n *node) {}
func leftChildren(t *testing.T, n *node)      {}
func hostileLogs(t *testing.T, n *node)       {}

var _ = exec.Command
var _ = fs.ModeDir
var _ = unix.Kill
var _ = empty.Image
