package spec

import (
	"bytes"
	"os"
	"testing"
)

// golden compares got with a file, or with -update writes it there.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		writeGolden(t, file, got)
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the code makes: run `go test ./pkg/spec -update`, and read the difference\ngot:\n%s", file, got)
	}
}

func writeGolden(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
