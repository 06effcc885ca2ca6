package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Sysctls of the network are read and written in the network namespace of the calling
// thread. Paths have slashes: an interface's name may have dots.

const sysctlRoot = "/proc/sys/net"

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(path.Join(sysctlRoot, name))
	return strings.TrimSpace(string(b)), err
}

// setSysctl writes a value unless it is there already.
func setSysctl(name, value string) error {
	if have, err := readSysctl(name); err == nil && have == value {
		return nil
	}
	if err := os.WriteFile(path.Join(sysctlRoot, name), []byte(value), 0); err != nil {
		return fmt.Errorf("sysctl net.%s = %s: %w", strings.ReplaceAll(name, "/", "."), value, err)
	}
	return nil
}

// hostHasIPv6 reports whether IPv6 is on. Where the administrator turned it off, ecsd
// does without.
func hostHasIPv6() bool {
	for _, name := range []string{"ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"} {
		if v, err := readSysctl(name); err != nil || v != "0" {
			return false
		}
	}
	return true
}

// ephemeralPorts is net.ipv4.ip_local_port_range.
func ephemeralPorts() (first, last uint16, err error) {
	v, err := readSysctl("ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0, err
	}
	f := strings.Fields(v)
	if len(f) != 2 {
		return 0, 0, fmt.Errorf("sysctl net.ipv4.ip_local_port_range: %q: want two numbers", v)
	}
	a, err1 := strconv.ParseUint(f[0], 10, 16)
	b, err2 := strconv.ParseUint(f[1], 10, 16)
	return uint16(a), uint16(b), errors.Join(err1, err2)
}

// forwardTo lets packets pass between the bridge and the interfaces named, with as little
// change to the host as its kernel allows:
//
//   - where the host forwards already, nothing is changed;
//   - IPv4 forwarding, and since Linux 6.17 IPv6 forwarding, is switched on for the bridge
//     and those interfaces alone;
//   - on an older kernel IPv6 forwarding is one switch for all; before it is thrown,
//     interfaces that take router advertisements are told to go on doing so.
//
// opened4 and opened6 are the interfaces opened by earlier calls. It returns those that
// are open for our sake alone now: the rule set keeps the host from routing between them.
func forwardTo(bridge string, ifaces4, ifaces6, opened4, opened6 []string, v6 bool) (now4, now6 []string, err error) {
	now4, err = forwardPerInterface("ipv4/conf/all/forwarding", "ipv4/conf/%s/forwarding", bridge, ifaces4, opened4)
	if err != nil || !v6 {
		return now4, nil, err
	}
	if _, err := readSysctl("ipv6/conf/all/force_forwarding"); err == nil {
		now6, err = forwardPerInterface("ipv6/conf/all/forwarding", "ipv6/conf/%s/force_forwarding", bridge, ifaces6, opened6)
		return now4, now6, err
	}
	if all, err := readSysctl("ipv6/conf/all/forwarding"); err != nil || all != "0" {
		return now4, opened6, err // the host's own doing, or ours of an earlier call
	}
	for _, i := range ifaces6 {
		if v, err := readSysctl("ipv6/conf/" + i + "/accept_ra"); err == nil && v == "1" {
			if err := setSysctl("ipv6/conf/"+i+"/accept_ra", "2"); err != nil {
				return now4, opened6, err
			}
		}
	}
	return now4, ifaces6, setSysctl("ipv6/conf/all/forwarding", "1")
}

func forwardPerInterface(all, one, bridge string, ifaces, opened []string) (now []string, err error) {
	if v, err := readSysctl(all); err != nil {
		return opened, err
	} else if v != "0" {
		return nil, nil
	}
	if err := setSysctl(fmt.Sprintf(one, bridge), "1"); err != nil {
		return opened, err
	}
	for _, i := range ifaces {
		name := fmt.Sprintf(one, i)
		v, err := readSysctl(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		switch {
		case err != nil:
			return opened, err
		case v == "0":
			if err := setSysctl(name, "1"); err != nil {
				return opened, err
			}
			now = append(now, i)
		case slices.Contains(opened, i):
			now = append(now, i)
		}
	}
	slices.Sort(now)
	return now, nil
}
