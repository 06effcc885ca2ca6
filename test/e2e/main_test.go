// Package e2e runs the real ecsd binary on a private, real containerd, in a network
// namespace of its own. The scripts in testdata say what a user does and sees; the Go
// tests are for what a script cannot say.
package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ecsd/test/testimage"
)

// inNamespace marks the process that TestMain started in a network namespace of its own.
const inNamespace = "ECSD_E2E_NAMESPACE"

// TestMain runs the tests in a new network namespace: bridges, firewall rules and sysctls
// of the tests are not the machine's.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv(inNamespace) != "" {
		if os.Getenv(inNamespace) != "" {
			if err := prepareNamespace(); err != nil {
				fmt.Fprintln(os.Stderr, "e2e: prepare the network namespace:", err)
				os.Exit(1)
			}
		}
		code := m.Run()
		if builtIn != "" {
			_ = os.RemoveAll(builtIn)
		}
		os.Exit(code)
	}
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), inNamespace+"=yes")
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	runtime.LockOSThread() // Pdeathsig follows the thread that started it
	if err := self.Run(); err != nil {
		if self.ProcessState != nil && self.ProcessState.ExitCode() > 0 {
			os.Exit(self.ProcessState.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "e2e: run in a network namespace:", err)
		os.Exit(1)
	}
}

// prepareNamespace gives the namespace a loopback and a neighbour: a veth pair with an
// address, so that the host has one that is not loopback, as every real host has.
func prepareNamespace() error {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "uplink", "type", "veth", "peer", "name", "outside"},
		{"addr", "add", "192.0.2.1/24", "dev", "uplink"},
		{"link", "set", "uplink", "up"},
		{"link", "set", "outside", "up"},
		{"route", "add", "default", "via", "192.0.2.254"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	_, err := net.InterfaceByName("uplink")
	return err
}

// builtIn is the directory that binaries made, "" when it made none.
var builtIn string

// binaries builds ecsd, ecsd-log and the load generator once, or takes those of
// ECSD_E2E_BIN.
var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("ECSD_E2E_BIN"); dir != "" {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "ecsd-bin-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	build := exec.Command("go", "build", "-o", dir, "ecsd/cmd/ecsd", "ecsd/cmd/ecsd-log", "ecsd/test/tools/httpload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

func binDir(tb testing.TB) string {
	tb.Helper()
	dir, err := binaries()
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

func image(tb testing.TB) string { return testimage.Ref(tb) }
