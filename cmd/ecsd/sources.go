package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile is more than the largest manifest: what is larger is read no further, and the
// decoder then says what is too large.
const maxFile = 1<<20 + 1

// source is one manifest to read.
type source struct {
	name    string // as printed, "stdin" for standard input
	path    string // "" for standard input
	fromDir bool
}

// sources lists the manifests that arguments name: files, directories (their manifest
// files, not those of directories below) and "-" for standard input.
func sources(args []string) ([]source, error) {
	var out []source
	for _, arg := range args {
		if arg == "-" {
			out = append(out, source{name: "stdin"})
			continue
		}
		fi, err := os.Stat(arg)
		if err != nil {
			return nil, notThere(arg, err)
		}
		if !fi.IsDir() {
			out = append(out, source{name: arg, path: arg})
			continue
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, notThere(arg, err)
		}
		for _, e := range entries {
			if path := filepath.Join(arg, e.Name()); isManifest(path) {
				out = append(out, source{name: path, path: path, fromDir: true})
			}
		}
	}
	return out, nil
}

// isManifest tells, as the agent does for its directory, whether an entry is a manifest by
// its name and is not a directory.
func isManifest(path string) bool {
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
		return false
	}
	fi, err := os.Stat(path)
	return err != nil || !fi.IsDir() // an error is for read to tell
}

func notThere(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &exitError{exitNotFound, path + ": there is no such file or directory"}
	}
	return fmt.Errorf("read: %w", err)
}

// read gives a source's contents. Only regular files are read: a FIFO or device could
// block for ever.
func (s source) read(stdin io.Reader) ([]byte, error) {
	if s.path == "" {
		return io.ReadAll(io.LimitReader(stdin, maxFile))
	}
	fi, err := os.Stat(s.path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}
