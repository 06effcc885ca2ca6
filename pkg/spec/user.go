package spec

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ResolveUser turns a user as images and definitions name it into numbers, with the
// contents of the image's /etc/passwd and /etc/group. Six forms: user, user:group, uid,
// uid:gid, user:gid, uid:group; "" is root. home is the user's home directory, "/" when
// the image does not know the user.
//
// The rules are Docker's: a number needs no entry, but takes home and groups from one
// that exists; without a group the primary one is the entry's (0 without an entry) and
// the supplementary ones are all that list the user; with a group there are no others.
// The primary group is always among the supplementary ones: else a process could drop
// it, and pass a check that denies that group.
//
// A line of either file that is not of the form that passwd(5) and group(5) describe is
// passed over.
func ResolveUser(user string, passwd, group []byte) (u specs.User, home string, err error) {
	name, groupName, _ := strings.Cut(user, ":")
	if strings.Contains(groupName, ":") {
		return specs.User{}, "", fmt.Errorf("user %q has more than one colon: use user, user:group, uid, uid:gid, user:gid or uid:group", user)
	}
	if name == "" {
		name = "0"
	}
	uid, numeric, err := parseID(name)
	if err != nil {
		return specs.User{}, "", fmt.Errorf("user %q: %w", user, err)
	}

	entry, known := findUser(passwd, name, uid, numeric)
	if !known && !numeric {
		return specs.User{}, "", fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
	}
	home = "/"
	u = specs.User{UID: uid}
	if known {
		u.UID, u.GID = entry.uid, entry.gid
		if entry.home != "" {
			home = entry.home
		}
	}

	var others []uint32
	switch {
	case groupName != "":
		if u.GID, err = findGroup(group, groupName); err != nil {
			return specs.User{}, "", err
		}
	case known:
		others = groupsOf(group, entry.name)
	}
	u.AdditionalGids = []uint32{u.GID}
	for _, gid := range others {
		if !slices.Contains(u.AdditionalGids, gid) {
			u.AdditionalGids = append(u.AdditionalGids, gid)
		}
	}
	return u, home, nil
}

// parseID reads a uid or gid. numeric is false when s is a name.
func parseID(s string) (id uint32, numeric bool, err error) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return 0, true, fmt.Errorf("uids and gids must be in range 0-%d", math.MaxInt32)
	}
	return uint32(n), true, nil
}

// passwdEntry is what matters of a line of passwd(5).
type passwdEntry struct {
	name, home string
	uid, gid   uint32
}

// findUser gives the first entry of that name or, for a number, of that uid.
func findUser(passwd []byte, name string, uid uint32, numeric bool) (passwdEntry, bool) {
	for line := range bytes.Lines(passwd) {
		f := strings.Split(strings.TrimSpace(string(line)), ":") // name:password:uid:gid:gecos:home:shell
		if len(f) < 4 || f[0] == "" {
			continue
		}
		id, ok1, err1 := parseID(f[2])
		gid, ok2, err2 := parseID(f[3])
		if !ok1 || !ok2 || err1 != nil || err2 != nil {
			continue
		}
		if f[0] != name && (!numeric || id != uid) {
			continue
		}
		e := passwdEntry{name: f[0], uid: id, gid: gid}
		if len(f) > 5 {
			e.home = f[5]
		}
		return e, true
	}
	return passwdEntry{}, false
}

// groupEntry is what matters of a line of group(5).
type groupEntry struct {
	name    string
	gid     uint32
	members []string
}

func groupEntries(group []byte) []groupEntry {
	var entries []groupEntry
	for line := range bytes.Lines(group) {
		f := strings.Split(strings.TrimSpace(string(line)), ":") // name:password:gid:members
		if len(f) < 3 || f[0] == "" {
			continue
		}
		gid, ok, err := parseID(f[2])
		if !ok || err != nil {
			continue
		}
		e := groupEntry{name: f[0], gid: gid}
		if len(f) > 3 && f[3] != "" {
			e.members = strings.Split(f[3], ",")
		}
		entries = append(entries, e)
	}
	return entries
}

// findGroup gives the id of a group by name or number; a number needs no entry.
func findGroup(group []byte, name string) (uint32, error) {
	gid, numeric, err := parseID(name)
	if err != nil {
		return 0, fmt.Errorf("group %q: %w", name, err)
	}
	for _, e := range groupEntries(group) {
		if e.name == name || numeric && e.gid == gid {
			return e.gid, nil
		}
	}
	if !numeric {
		return 0, fmt.Errorf("unable to find group %s: no matching entries in group file", name)
	}
	return gid, nil
}

// groupsOf gives the ids of the groups that list a user, in the order of the file.
func groupsOf(group []byte, user string) []uint32 {
	var gids []uint32
	for _, e := range groupEntries(group) {
		if slices.Contains(e.members, user) {
			gids = append(gids, e.gid)
		}
	}
	return gids
}
