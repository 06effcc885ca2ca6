package agent

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryMiB is what the machine has, by /proc/meminfo.
func memoryMiB() (int, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 2 || fields[0] != "MemTotal:" {
			continue
		}
		kib, err := strconv.Atoi(fields[1])
		return kib / 1024, err
	}
	return 0, fmt.Errorf("/proc/meminfo has no MemTotal")
}

// sameMounts checks that containerd sees the same mounts as this process: it is given
// paths and pinned namespaces that only exist there. A containerd that does not answer
// cannot be checked and is not a fault.
func sameMounts(address string) error {
	conn, err := net.Dial("unix", strings.TrimPrefix(address, "unix://"))
	if err != nil {
		return nil
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || peerErr != nil {
		return nil
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", peer.Pid))
	if err != nil {
		return nil // socket activation, or a pid of another namespace
	}
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil || ours == theirs {
		return err
	}
	return fmt.Errorf("containerd (process %d) is in another mount namespace (%s) than this agent (%s): "+
		"take ProtectSystem, PrivateTmp and the like out of both units, and run both on the host itself", peer.Pid, theirs, ours)
}

// appArmorProfile is the profile for containers, "" where the kernel has no AppArmor or
// the profile is not loaded.
func appArmorProfile() string {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || !strings.HasPrefix(string(enabled), "Y") {
		return ""
	}
	profiles, err := os.ReadFile("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		return ""
	}
	for _, name := range []string{"ecsd-default", "docker-default", "cri-containerd.apparmor.d"} {
		if strings.Contains("\n"+string(profiles), "\n"+name+" ") {
			return name
		}
	}
	return ""
}
