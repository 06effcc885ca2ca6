package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nothingLeft waits until the machine holds nothing of the node's tasks, and says what is
// left when it does not come to that. It asks containerd's own client, cgroupfs, the
// kernel's links and mounts: never ecsd.
func (n *node) nothingLeft() error {
	var left []string
	err := n.until(`^$`, func() (string, error) {
		left = n.leftovers()
		return strings.Join(left, "\n"), nil
	})
	if err != nil {
		return fmt.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
	}
	return nil
}

func (n *node) leftovers() []string {
	var left []string
	ctr := func(what string, args ...string) {
		out, err := exec.Command("ctr", append([]string{"--address", n.daemon.Address, "--namespace", n.namespace()}, args...)...).Output()
		if err != nil {
			left = append(left, fmt.Sprintf("%s: %v", what, err))
		}
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSpace(line); line != "" {
				left = append(left, what+" "+line)
			}
		}
	}
	ctr("container", "containers", "list", "-q")
	ctr("task", "tasks", "list", "-q")
	ctr("lease", "leases", "list", "-q")
	left = append(left, n.snapshots()...)

	parent := fmt.Sprintf("ecs-e2e-%d-%d", os.Getpid(), n.number)
	slice := "ecstasks_" + strings.ReplaceAll(parent, "-", "_") + ".slice" // where systemd owns the tree
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if above := filepath.Base(filepath.Dir(path)); above == parent || above == slice {
			left = append(left, "cgroup "+path)
			return fs.SkipDir
		}
		return nil
	})
	if pins, _ := filepath.Glob(n.path("run", "netns", "*")); len(pins) > 0 {
		left = append(left, "namespaces "+strings.Join(pins, " "))
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err == nil {
		for line := range strings.Lines(string(mounts)) {
			if f := strings.Fields(line); strings.HasPrefix(f[1], n.path("run", "netns")+"/") || strings.HasPrefix(f[1], n.path("data")+"/") {
				left = append(left, "mount "+f[1])
			}
		}
	}
	if out, err := exec.Command("ip", "-o", "link", "show", "master", fmt.Sprintf("e2e%d", n.number)).Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			left = append(left, "link "+strings.TrimSpace(line))
		}
	}
	if out, err := exec.Command("nft", "list", "ruleset").Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "elements") && strings.Contains(line, fmt.Sprintf("172.31.%d.", n.number)) && !strings.Contains(line, "172.31."+fmt.Sprint(n.number)+".0/24") {
				left = append(left, "nft "+strings.TrimSpace(line))
			}
		}
	}
	return left
}

// snapshots are the active ones: those of images are committed and stay.
func (n *node) snapshots() []string {
	out, err := exec.Command("ctr", "--address", n.daemon.Address, "--namespace", n.namespace(), "snapshots", "list").Output()
	if err != nil {
		return []string{"snapshots: " + err.Error()}
	}
	var active []string
	for line := range strings.Lines(string(out)) {
		if strings.HasSuffix(strings.TrimSpace(line), "Active") {
			active = append(active, "snapshot "+strings.TrimSpace(line))
		}
	}
	return active
}
