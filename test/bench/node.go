package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// daemon is a private containerd.
type daemon struct {
	address string
	cmd     *exec.Cmd
}

func startContainerd(ctx context.Context, dir string) (*daemon, error) {
	address := filepath.Join(dir, "containerd.sock")
	config := filepath.Join(dir, "containerd.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "containerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("containerd", "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &daemon{address, cmd}, untilDial(ctx, address)
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	_ = d.cmd.Wait()
}

func untilDial(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("unix", address); err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", address, ctx.Err())
		}
	}
}

// agent is ecsd on that containerd.
type agent struct {
	dir, bin, archive, address string
	cmd                        *exec.Cmd
	env                        []string
}

const namespace = "bench"

func startAgent(ctx context.Context, dir, bin, archive, address string) (*agent, error) {
	a := &agent{dir: dir, bin: bin, archive: archive, address: address}
	manifests := filepath.Join(dir, "manifests")
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(manifests, ".allow-empty"), nil, 0o644); err != nil {
		return nil, err
	}
	a.env = append(os.Environ(),
		"ECSD_SOCKET="+filepath.Join(dir, "agent.sock"), "ECSD_MANIFESTS="+manifests, "ECS_DATADIR="+filepath.Join(dir, "data"),
		"ECSD_RUN_DIR="+filepath.Join(dir, "run"), "ECSD_LOG_DIR="+filepath.Join(dir, "log"), "ECSD_CONTAINERD_ADDRESS="+address,
		"ECSD_CONTAINERD_NAMESPACE="+namespace, "ECSD_CGROUP_PARENT=/bench-ecsd", "ECSD_BRIDGE=bench0", "ECSD_BRIDGE_CIDR=172.29.0.0/16",
		"ECSD_INTROSPECTION_LISTEN=127.0.0.1:51698", "ECS_IMAGE_PULL_BEHAVIOR=prefer-cached", "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=1s")
	log, err := os.Create(filepath.Join(dir, "agent.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	a.cmd = exec.Command(filepath.Join(bin, "ecsd"), "agent", "--config", "/dev/null")
	a.cmd.Env = a.env
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	if err := untilDial(ctx, filepath.Join(dir, "agent.sock")); err != nil {
		return nil, err
	}
	return a, a.wait(ctx, "stable")
}

func (a *agent) stop() {
	_ = a.cmd.Process.Signal(unix.SIGTERM)
	_ = a.cmd.Wait()
}

func (a *agent) ecsd(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(a.bin, "ecsd"), args...)
	cmd.Env = a.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("ecsd %s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return string(out), err
}

func (a *agent) wait(ctx context.Context, what string, args ...string) error {
	_, err := a.ecsd(ctx, append([]string{"wait", "--for=" + what, "--timeout=120s"}, args...)...)
	return err
}

// run makes a service of count tasks whose containers stamp file, by one rename, and
// returns the moment just before the rename.
func (a *agent) run(name, network, command string, count int) (time.Duration, error) {
	text := fmt.Sprintf(`family: %[1]s
networkMode: %[2]s
volumes: [{name: stamps, host: {sourcePath: %[3]q}}]
containerDefinitions:
  - name: main
    image: "oci-archive:%[4]s"
    command: [%[5]s]
    memory: 32
    stopTimeout: 5
    mountPoints: [{sourceVolume: stamps, containerPath: /stamps}]
---
serviceName: %[1]s
taskDefinition: %[1]s
desiredCount: %[6]d
deploymentConfiguration: {minimumHealthyPercent: 0, maximumPercent: 200}
`, name, network, filepath.Join(a.dir, "stamps"), a.archive, command, count)
	tmp := filepath.Join(a.dir, "new.yaml")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return 0, err
	}
	before := bootTime()
	return before, os.Rename(tmp, a.manifest(name))
}

func (a *agent) manifest(name string) string { return filepath.Join(a.dir, "manifests", name+".yaml") }

// gone removes the manifest and waits until nothing of it runs.
func (a *agent) gone(ctx context.Context, name string) error {
	if err := os.Remove(a.manifest(name)); err != nil {
		return err
	}
	return a.wait(ctx, "stopped", name)
}

func bootTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// stampWatch reads what containers stamp into a directory.
type stampWatch struct {
	dir     string
	watcher *fsnotify.Watcher
}

func watchStamps(dir string) (*stampWatch, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &stampWatch{dir, w}, w.Add(dir)
}

// last waits until the file has count stamps and returns the latest.
func (s *stampWatch) last(ctx context.Context, file string, count int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		stamps, err := readStamps(filepath.Join(s.dir, file))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		if len(stamps) >= count {
			latest := stamps[0]
			for _, t := range stamps {
				latest = max(latest, t)
			}
			return latest, nil
		}
		select {
		case <-s.watcher.Events:
		case err := <-s.watcher.Errors:
			return 0, err
		case <-ctx.Done():
			return 0, fmt.Errorf("%s has %d of %d stamps: %w", file, len(stamps), count, ctx.Err())
		}
	}
}

func readStamps(file string) ([]time.Duration, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var stamps []time.Duration
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			return stamps, nil // a line without its end is still being written
		}
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return nil, err
		}
		stamps = append(stamps, time.Duration(n))
	}
}

// figures reads what the agent's process uses, CPU over the given time.
func (a *agent) figures(ctx context.Context, tasks int, over time.Duration) (idle, error) {
	proc := fmt.Sprintf("/proc/%d/", a.cmd.Process.Pid)
	cpu := func() (float64, error) {
		b, err := os.ReadFile(proc + "stat")
		if err != nil {
			return 0, err
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
		user, _ := strconv.ParseFloat(f[11], 64)
		system, _ := strconv.ParseFloat(f[12], 64)
		return (user + system) / 100, nil // USER_HZ
	}
	before, err := cpu()
	if err != nil {
		return idle{}, err
	}
	start := bootTime()
	select {
	case <-time.After(over):
	case <-ctx.Done():
		return idle{}, ctx.Err()
	}
	after, err := cpu()
	if err != nil {
		return idle{}, err
	}
	i := idle{Tasks: tasks, CPUPercent: (after - before) / (bootTime() - start).Seconds() * 100}
	i.RSSMB = field(proc+"status", "VmRSS:") / 1024
	i.Threads = int(field(proc+"status", "Threads:"))
	i.PSSMB = field(proc+"smaps_rollup", "Pss:") / 1024
	fds, _ := os.ReadDir(proc + "fd")
	i.Files = len(fds)
	return i, nil
}

func field(file, name string) float64 {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseFloat(f[1], 64)
			return n
		}
	}
	return 0
}
