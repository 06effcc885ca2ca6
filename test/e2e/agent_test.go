package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ecsd/test/containerdtest"
)

// patience bounds every wait for another process. It is not a measure of speed: on a
// loaded machine everything takes longer.
var patience = containerdtest.Patience(60 * time.Second)

// node is one host as ecsd sees it: directories, a bridge, a containerd namespace. Several
// of them fit on one containerd and in one network namespace.
type node struct {
	tb     testing.TB
	daemon *containerdtest.Daemon
	dir    string
	env    []string
	number int
	cmd    *exec.Cmd
	log    bytes.Buffer
	done   chan struct{}
}

var nodes atomic.Int64

// newNode lays out a node in dir. Its Manifests directory exists and is empty.
func newNode(tb testing.TB, daemon *containerdtest.Daemon, dir string) *node {
	tb.Helper()
	n := &node{tb: tb, daemon: daemon, dir: dir, number: int(nodes.Add(1))}
	bin := binDir(tb)
	n.env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"),
		"HOME=" + dir,
		"ECSD_SOCKET=" + n.path("agent.sock"),
		"ECSD_MANIFESTS=" + n.path("manifests"),
		"ECS_DATADIR=" + n.path("data"),
		"ECSD_RUN_DIR=" + n.path("run"),
		"ECSD_LOG_DIR=" + n.path("log"),
		"ECSD_CONTAINERD_ADDRESS=" + daemon.Address,
		"ECSD_CONTAINERD_NAMESPACE=" + n.namespace(),
		"ECSD_CGROUP_PARENT=" + fmt.Sprintf("/ecs-e2e-%d-%d", os.Getpid(), n.number),
		"ECSD_BRIDGE=" + fmt.Sprintf("e2e%d", n.number),
		"ECSD_BRIDGE_CIDR=" + fmt.Sprintf("172.31.%d.0/24", n.number),
		"ECSD_INTROSPECTION_LISTEN=" + n.introspection(),
		"IMAGE=" + image(tb),
		"INTROSPECTION=http://" + n.introspection(),
	}
	if err := os.MkdirAll(n.path("manifests"), 0o755); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(n.cleanup)
	return n
}

func (n *node) path(elem ...string) string {
	return filepath.Join(append([]string{n.dir}, elem...)...)
}

func (n *node) namespace() string     { return fmt.Sprintf("%s-%d", n.daemon.Namespace, n.number) }
func (n *node) introspection() string { return fmt.Sprintf("127.0.0.1:%d", 21700+n.number) }

// start starts the agent and returns when it says that it is ready.
func (n *node) start(args ...string) error {
	if n.cmd != nil {
		return errors.New("the agent runs already")
	}
	socket := n.path("notify.sock")
	_ = os.Remove(socket)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	cmd := exec.Command(filepath.Join(binDir(n.tb), "ecsd"), append([]string{"agent", "--config", n.config()}, args...)...)
	cmd.Env = append(n.env, "NOTIFY_SOCKET="+socket)
	cmd.Dir = n.dir
	cmd.Stdout, cmd.Stderr = &n.log, &n.log
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.cmd, n.done = cmd, make(chan struct{})
	go func(done chan struct{}) { _ = cmd.Wait(); _ = conn.SetReadDeadline(time.Now()); close(done) }(n.done)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	for {
		k, err := conn.Read(buf)
		if err != nil {
			select {
			case <-n.done:
				n.cmd = nil
				return fmt.Errorf("the agent ended: %v\n%s", cmd.ProcessState, n.log.String())
			default:
				return fmt.Errorf("the agent was not ready within %v\n%s", patience, n.log.String())
			}
		}
		if strings.Contains(string(buf[:k]), "READY=1") {
			return nil
		}
	}
}

// config is the node's configuration file; scripts may write one.
func (n *node) config() string {
	file := n.path("ecs.config")
	if _, err := os.Stat(file); err != nil {
		_ = os.WriteFile(file, nil, 0o600)
	}
	return file
}

// end ends the agent with the signal and returns its exit code, -1 after SIGKILL.
func (n *node) end(signal unix.Signal) (int, error) {
	if n.cmd == nil {
		return 0, errors.New("the agent does not run")
	}
	_ = n.cmd.Process.Signal(signal)
	select {
	case <-n.done:
	case <-time.After(patience):
		_ = n.cmd.Process.Kill()
		<-n.done
		return 0, fmt.Errorf("the agent did not end within %v of %v\n%s", patience, signal, n.log.String())
	}
	code := n.cmd.ProcessState.ExitCode()
	n.cmd = nil
	return code, nil
}

// ecsd runs the command line as a user would.
func (n *node) ecsd(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(binDir(n.tb), "ecsd"), args...)
	cmd.Env, cmd.Dir = n.env, n.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("ecsd %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

// until runs a command again and again until what it prints matches.
func (n *node) until(pattern string, run func() (string, error)) error {
	re, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		return err
	}
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := run()
		if re.MatchString(out) {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return errors.Join(fmt.Errorf("within %v nothing matched %q; last:\n%s", patience, pattern, out), err)
		}
	}
}

// write puts a manifest in place by rename, as a careful user does.
func (n *node) write(name, content string) {
	n.tb.Helper()
	content = strings.ReplaceAll(content, "$IMAGE", image(n.tb))
	tmp := n.path("manifests", "."+name+".new")
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		n.tb.Fatal(err)
	}
	if err := os.Rename(tmp, n.path("manifests", name)); err != nil {
		n.tb.Fatal(err)
	}
}

func (n *node) cleanup() {
	if n.cmd != nil {
		_, _ = n.end(unix.SIGKILL)
	}
	if n.tb.Failed() {
		n.tb.Logf("agent log of node %d:\n%s", n.number, tail(n.log.String(), 12000))
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
