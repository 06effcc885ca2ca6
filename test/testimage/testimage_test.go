package testimage

import (
	"os"
	"os/exec"
	"testing"
)

func TestTheArchiveHoldsARunnableTestbox(t *testing.T) {
	info, err := os.Stat(Archive(t))
	if err != nil || info.Size() < 1<<20 {
		t.Fatalf("archive: %v, %v", info, err)
	}
	err = exec.Command(Binary(t), "exit", "42").Run()
	if code := err.(*exec.ExitError).ExitCode(); code != 42 {
		t.Fatalf("testbox exit 42: exit code %d", code)
	}
}
