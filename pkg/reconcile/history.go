package reconcile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/renameio/v2"

	"ecsd/pkg/spec"
)

// Bounds of the history of ended tasks.
const (
	historyPerFamily = 50
	historyAge       = 7 * 24 * time.Hour
)

// history is history.jsonl and what it says: ended tasks, oldest first. New lines are
// appended; once the file has twice the lines that are kept it is written anew.
type history struct {
	lines []End
	inLog int // lines in the file
}

// load reads the file. Lines that cannot be read are passed over; one of a newer ecsd is
// an error.
func (h *history) load(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var f endFile
		switch err := decode(lines.Bytes(), &f, func() int { return f.Version }); {
		case errors.Is(err, ErrNewer):
			return fmt.Errorf("%s: %w", path, err)
		case err == nil:
			h.lines = append(h.lines, f.End)
		}
		h.inLog++
	}
	return nil
}

// add appends one end and drops what is over the bounds.
func (h *history) add(path string, e End, now spec.Time) error {
	h.lines = bounded(append(h.lines, e), now.Wall)
	if h.inLog >= 2*len(h.lines)+historyPerFamily {
		return h.rewrite(path)
	}
	line, err := json.Marshal(endFile{recordVersion, e})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	// A leading newline ends what a crash may have left half written; empty lines are
	// passed over.
	if _, err := f.Write(append(append([]byte("\n"), line...), '\n')); err != nil {
		return errors.Join(err, f.Close())
	}
	h.inLog += 2
	return f.Close()
}

func (h *history) rewrite(path string) error {
	var b bytes.Buffer
	for _, e := range h.lines {
		line, err := json.Marshal(endFile{recordVersion, e})
		if err != nil {
			return err
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	if err := renameio.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return err
	}
	h.inLog = len(h.lines)
	return nil
}

func (h *history) has(id string) bool {
	for _, e := range h.lines {
		if e.Status.TaskID == id {
			return true
		}
	}
	return false
}

// bounded keeps the newest fifty ends of each family, and none older than a week by the
// wall clock. An end in the future, from a clock that was wrong, counts as new.
func bounded(lines []End, now time.Time) []End {
	family := map[string]int{}
	keep := make([]bool, len(lines))
	n := 0
	for i := len(lines) - 1; i >= 0; i-- {
		e := lines[i]
		family[e.Status.Family]++
		if family[e.Status.Family] <= historyPerFamily && now.Sub(e.At.Wall) < historyAge {
			keep[i] = true
			n++
		}
	}
	out := make([]End, 0, n)
	for i, e := range lines {
		if keep[i] {
			out = append(out, e)
		}
	}
	return out
}
