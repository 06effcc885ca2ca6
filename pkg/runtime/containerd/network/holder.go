package network

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listener names the program on the host that listens on a port (for UDP: has bound it),
// in words; found is false when none does. It reads /proc, and is for when a reservation
// has failed.
func listener(p hostPort) (name string, found bool) {
	for _, v := range []string{"", "6"} {
		f, err := os.Open("/proc/thread-self/net/" + p.proto + v)
		if err != nil {
			continue
		}
		inode, is := listeningInode(bufio.NewScanner(f), p)
		_ = f.Close()
		if is {
			return program(inode), true
		}
	}
	return "", false
}

// listeningInode finds a port's listening socket in a table of /proc/net.
func listeningInode(table *bufio.Scanner, p hostPort) (inode string, found bool) {
	const tcpListen, udpUnconnected = "0A", "07"
	port := fmt.Sprintf(":%04X", p.port)
	for table.Scan() {
		f := strings.Fields(table.Text())
		if len(f) < 10 || !strings.HasSuffix(f[1], port) {
			continue
		}
		if p.proto == "tcp" && f[3] == tcpListen || p.proto == "udp" && f[3] == udpUnconnected {
			return f[9], true
		}
	}
	return "", false
}

// program names the process that has the socket with that inode open.
func program(inode string) string {
	link := "socket:[" + inode + "]"
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well-formed
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != link {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		if pid == strconv.Itoa(os.Getpid()) {
			return "ecsd itself"
		}
		comm, _ := os.ReadFile("/proc/" + pid + "/comm") // gone: its pid must do
		return fmt.Sprintf("%s (pid %s) on the host", strings.TrimSpace(string(comm)), pid)
	}
	return "a program on the host"
}
