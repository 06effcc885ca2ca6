package logs

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"ecsd/pkg/spec"
)

// Rotation says how much of a container's output is kept.
type Rotation struct {
	MaxSize int64 // bytes of one file; 0: it is never rotated
	MaxFile int   // files, the newest included
}

// Default is what is kept when the definition does not say: 100 MB in five files, as
// Docker's "local" driver. Docker's json-file keeps everything until the disk is full.
var Default = Rotation{MaxSize: 20 << 20, MaxFile: 5}

// RotationOf reads the options max-size and max-file of the json-file (and local) driver,
// in Docker's forms: "10m" and "3". Sizes have the units b, k, m and g of 1024; -1 means
// without limit. Output for other drivers is kept in files as well, with the default
// rotation. nil is the default.
func RotationOf(c *spec.LogConfiguration) (Rotation, error) {
	r := Default
	if c == nil || (c.LogDriver != "json-file" && c.LogDriver != "local" && c.LogDriver != "") {
		return r, nil
	}
	size, sized := c.Options["max-size"]
	count, counted := c.Options["max-file"]
	if sized {
		n, err := parseSize(size)
		if err != nil {
			return Default, fmt.Errorf("logConfiguration.options.max-size: %w", err)
		}
		r.MaxSize = n
		if !counted {
			r.MaxFile = 1 // Docker's default beside a max-size
		}
	}
	if counted {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 || n > 1000 {
			return Default, fmt.Errorf("logConfiguration.options.max-file: %q is not a number from 1 to 1000", count)
		}
		if n > 1 && !sized && c.LogDriver == "json-file" {
			// Docker refuses this: without a size, nothing is ever rotated.
			return Default, fmt.Errorf("logConfiguration.options.max-file: it needs max-size beside it, such as \"10m\"")
		}
		r.MaxFile = n
	}
	return r, nil
}

// parseSize reads a size as Docker's log options have it.
func parseSize(s string) (int64, error) {
	bad := func() (int64, error) {
		return 0, fmt.Errorf("%q is not a size: give a whole number with one of the units k, m or g, such as \"10m\"", s)
	}
	if s == "-1" {
		return 0, nil
	}
	digits := strings.TrimRight(strings.ToLower(strings.TrimSpace(s)), "bkmgi")
	unit, ok := map[string]int64{
		"": 1, "b": 1,
		"k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10,
		"m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20,
		"g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30,
	}[strings.ToLower(strings.TrimSpace(s))[len(digits):]]
	if !ok {
		return bad()
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/unit {
		return bad()
	}
	return n * unit, nil
}

// WriterArgs are the arguments of the log writer for a container, as containerd's client
// takes them for a binary:// URI (cio.BinaryIO, cio.LogURIGenerator).
func WriterArgs(file string, r Rotation, tty bool) map[string]string {
	return map[string]string{
		"file":     file,
		"max-size": strconv.FormatInt(r.MaxSize, 10),
		"max-file": strconv.Itoa(max(r.MaxFile, 1)),
		"tty":      strconv.FormatBool(tty),
	}
}

// Ignored names the options of a log configuration that have no effect on the files,
// sorted: what a log driver of Docker's would do with them is not done here.
func Ignored(c *spec.LogConfiguration) []string {
	if c == nil || (c.LogDriver != "json-file" && c.LogDriver != "local" && c.LogDriver != "") {
		return nil
	}
	var names []string
	for k := range c.Options {
		if k != "max-size" && k != "max-file" {
			names = append(names, k)
		}
	}
	sort.Strings(names)
	return names
}
