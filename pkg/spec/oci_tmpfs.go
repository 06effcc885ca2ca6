package spec

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// tmpfsFlags are the mount options of a tmpfs without a value, in groups of which the
// last one given counts.
var tmpfsFlags = [][]string{
	{"ro", "rw"},
	{"suid", "nosuid"},
	{"dev", "nodev"},
	{"exec", "noexec"},
	{"sync", "async"},
	{"dirsync"},
	{"mand", "nomand"},
	{"atime", "noatime"},
	{"diratime", "nodiratime"},
	{"relatime", "norelatime"},
	{"strictatime", "nostrictatime"},
	{"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"},
}

// tmpfsValues are the mount options of a tmpfs with a value.
var tmpfsValues = []string{"mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "size"}

// tmpfsMounts gives the definition's tmpfs mounts. Two at one path, or one at the path of
// a mount point, are an error.
func (r rendering) tmpfsMounts() ([]specs.Mount, error) {
	var mounts []specs.Mount
	for i, t := range r.params.Tmpfs {
		field := "linuxParameters.tmpfs[" + strconv.Itoa(i) + "]"
		destination := path.Clean(t.ContainerPath)
		isTmpfs := func(m specs.Mount) bool { return m.Destination == destination }
		isVolume := func(m MountPoint) bool { return path.Clean(m.ContainerPath) == destination }
		switch {
		case !path.IsAbs(destination):
			return nil, r.fail(CodeCannotCreateContainer, field, "invalid mount path: '%s' mount path must be absolute", t.ContainerPath)
		case destination == "/":
			return nil, r.fail(CodeCannotCreateContainer, field, "invalid mount path: destination can't be '/'")
		case slices.ContainsFunc(mounts, isTmpfs), slices.ContainsFunc(r.c.MountPoints, isVolume):
			return nil, r.fail(CodeCannotCreateContainer, field, "Duplicate mount point: %s", destination)
		}
		options, bad := tmpfsOptions(t)
		if bad != "" {
			return nil, r.fail(CodeCannotCreateContainer, field, "Invalid tmpfs option %q: it means nothing to a tmpfs", bad)
		}
		mounts = append(mounts, specs.Mount{Destination: destination, Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	return mounts, nil
}

// tmpfsOptions merges Docker's options of a tmpfs (noexec, nosuid, nodev, rprivate) with
// the definition's and its size: a later one replaces those it contradicts. bad is the
// first that cannot be given to a tmpfs, "" when all can.
func tmpfsOptions(t Tmpfs) (options []string, bad string) {
	given := slices.Concat([]string{"noexec", "nosuid", "nodev", "rprivate"}, t.MountOptions)
	if t.Size > 0 {
		given = append(given, "size="+strconv.FormatInt(int64(t.Size)*mebibyte, 10))
	}
	for _, o := range given {
		if o == "defaults" {
			continue
		}
		same, ok := tmpfsGroup(o)
		if !ok {
			return nil, o
		}
		options = append(slices.DeleteFunc(options, same), o)
	}
	return options, ""
}

// tmpfsGroup gives a test for the options that o replaces.
func tmpfsGroup(o string) (same func(string) bool, ok bool) {
	if key, value, isValue := strings.Cut(o, "="); isValue {
		return func(other string) bool { return strings.HasPrefix(other, key+"=") },
			value != "" && slices.Contains(tmpfsValues, key) && (key == "mpol" || !strings.Contains(value, ","))
	}
	for _, group := range tmpfsFlags {
		if slices.Contains(group, o) {
			return func(other string) bool { return slices.Contains(group, other) }, true
		}
	}
	return nil, false
}
