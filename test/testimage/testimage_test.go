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

// TestWriteImage is how a machine without Go gets its image: it writes it to the
// directory that ECSD_TEST_IMAGE_OUT names.
func TestWriteImage(t *testing.T) {
	dir := os.Getenv("ECSD_TEST_IMAGE_OUT")
	if dir == "" {
		dir = t.TempDir()
	}
	for name, from := range map[string]string{"testbox": Binary(t), "testimage.tar": Archive(t)} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+name, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
