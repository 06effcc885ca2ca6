package logs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// chain opens the files of a log that are newer than after (nil: all), oldest first.
// found tells whether after was met; when it was not, files between may be gone.
//
// The writer renames while this looks: names move up, from .1 to .2, and a new file
// takes the first name. This walks up too, so it may meet a file twice (told by its
// inode) but misses none; and if the first name changed its file meanwhile, the order
// cannot be trusted and it looks again.
func chain(path string, after os.FileInfo) (files []*os.File, found bool, err error) {
	for range 100 {
		first, err := os.Stat(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
		files, found, err = walk(path, after)
		if err != nil {
			return nil, false, err
		}
		last, err := os.Stat(path)
		if (first == nil && err != nil) || (first != nil && err == nil && os.SameFile(first, last)) {
			return files, found, nil
		}
		closeAll(files)
	}
	return nil, false, errors.New("log " + path + ": it is rotated faster than it can be read: give it a larger max-size")
}

func walk(path string, after os.FileInfo) (files []*os.File, found bool, err error) {
	var seen []os.FileInfo
	for i := range highest(path) + 3 { // rotations under way move the last one up
		name := path
		if i > 0 {
			name += "." + strconv.Itoa(i)
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(files)
			return nil, false, err
		}
		info, err := f.Stat()
		if err != nil || !info.Mode().IsRegular() {
			_ = f.Close()
			continue
		}
		if after != nil && os.SameFile(info, after) {
			_ = f.Close()
			found = true
			break
		}
		if contains(seen, info) {
			_ = f.Close()
			continue
		}
		seen = append(seen, info)
		files = append([]*os.File{f}, files...)
	}
	return files, found, nil
}

// highest is the greatest number that a rotated file of the log bears.
func highest(path string) int {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return 0
	}
	most := 0
	for _, e := range entries {
		if num, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+"."); ok {
			if n, err := strconv.Atoi(num); err == nil && n < 10_000 {
				most = max(most, n)
			}
		}
	}
	return most
}

func contains(infos []os.FileInfo, one os.FileInfo) bool {
	for _, i := range infos {
		if os.SameFile(i, one) {
			return true
		}
	}
	return false
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
