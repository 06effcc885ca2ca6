package containerdtest_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ecsd/test/containerdtest"
)

func TestDaemonComesBackOnTheSameState(t *testing.T) {
	d := containerdtest.Start(t)
	first := d.PID()
	if _, err := os.Stat(filepath.Join(d.Root, "io.containerd.metadata.v1.bolt", "meta.db")); err != nil {
		t.Errorf("the daemon does not use its own root: %v", err)
	}
	d.Kill()
	if _, err := net.Dial("unix", d.Address); err == nil {
		t.Error("somebody answers although the daemon was killed")
	}
	d.Restart()
	if d.PID() == first {
		t.Error("the daemon has the same pid after a restart")
	}
	conn, err := net.Dial("unix", d.Address)
	if err != nil {
		t.Fatalf("no answer after a restart: %v", err)
	}
	_ = conn.Close()
	if shims := d.Shims(); len(shims) != 0 {
		t.Errorf("shims %v without a container", shims)
	}
}

func TestPatience(t *testing.T) {
	for factor, want := range map[string]time.Duration{"": time.Second, "6": 6 * time.Second, "0": time.Second, "-2": time.Second, "much": time.Second} {
		t.Setenv("ECSD_TEST_PATIENCE", factor)
		if got := containerdtest.Patience(time.Second); got != want {
			t.Errorf("a second with factor %q is %v, want %v", factor, got, want)
		}
	}
}
