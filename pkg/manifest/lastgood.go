package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// lastGoodVersion is the version of the file that Config.LastGood names.
const lastGoodVersion = 1

// lastGood is that file: the text of every manifest that counts, by name.
type lastGood struct {
	Version int               `json:"version"`
	Path    string            `json:"path"` // of the directory
	Files   map[string]string `json:"files"`
}

// remember takes what counted when the agent last ran for what counts now. Without it
// the loop begins with nothing known, which stops nothing either, but then a file that is
// invalid at start has no last good content.
func (l *loop) remember() {
	good, err := readLastGood(l.dir.cfg.LastGood, l.dir.cfg.Path)
	if err != nil {
		l.dir.cfg.Log.Warn("the last good manifests are not known; files that are invalid now define nothing", "error", err)
		return
	}
	if len(good) > 0 {
		l.now = state{known: true, good: good}
	}
}

func readLastGood(file, dir string) (map[string]*content, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var saved lastGood
	if err := json.Unmarshal(b, &saved); err != nil {
		return nil, fmt.Errorf("%s: %w: remove it", file, err)
	}
	if saved.Version > lastGoodVersion {
		return nil, fmt.Errorf("%s: has version %d, and this ecsd knows versions up to %d: run the newer ecsd that wrote it, or remove it", file, saved.Version, lastGoodVersion)
	}
	if saved.Path != dir {
		return nil, nil // another directory is followed now: that was on purpose
	}
	good := map[string]*content{}
	for name, text := range saved.Files {
		// A newer ecsd may refuse what an older one took: then there is no last good content.
		if c := parse(filepath.Join(dir, name), []byte(text)); c.err == nil {
			good[name] = c
		}
	}
	return good, nil
}

// save writes down what counts. That it could not is worth a warning and no more.
func (l *loop) save() {
	if l.dir.cfg.LastGood == "" {
		return
	}
	saved := lastGood{Version: lastGoodVersion, Path: l.dir.cfg.Path, Files: map[string]string{}}
	for name, c := range l.now.good {
		saved.Files[name] = string(c.data)
	}
	b, err := json.Marshal(saved)
	if err == nil {
		err = renameio.WriteFile(l.dir.cfg.LastGood, b, 0o600)
	}
	if err != nil {
		l.dir.cfg.Log.Warn("the last good manifests could not be written down", "error", err)
	}
}
