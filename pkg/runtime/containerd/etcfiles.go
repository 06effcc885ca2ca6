package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ecsd/pkg/spec"
)

// etcDir holds the files that a container mounts under /etc. They are made with the
// sandbox, since they need its addresses, and written in place: containers mount the file,
// not its name, so a repaired one must stay the same file.
func (r *Runtime) etcDir(task string, index int) string {
	return filepath.Join(r.taskDir(task), "etc", strconv.Itoa(index))
}

func (r *Runtime) etcFiles(task string, index int) spec.EtcFiles {
	dir := r.etcDir(task, index)
	return spec.EtcFiles{
		Hosts:      filepath.Join(dir, "hosts"),
		ResolvConf: filepath.Join(dir, "resolv.conf"),
		Hostname:   filepath.Join(dir, "hostname"),
	}
}

// writeEtc writes hosts, resolv.conf and hostname of every container.
func (r *Runtime) writeEtc(t spec.Task, s *sandbox) error {
	addresses := map[string][]netip.Addr{}
	for name, a := range s.Attachments {
		for _, ip := range []netip.Addr{a.IPv4, a.IPv6} {
			if ip.IsValid() {
				addresses[name] = append(addresses[name], ip)
			}
		}
	}
	own := map[string][]byte{}
	read := func(path string) []byte {
		if _, ok := own[path]; !ok {
			own[path], _ = os.ReadFile(path) // a host without the file has nothing to say
		}
		return own[path]
	}
	hostNetwork := s.NetworkMode == "host"
	for i, c := range t.Definition.ContainerDefinitions {
		hostname := spec.Hostname(t, c.Name, r.specHost(t.ID))
		mine := addresses[c.Name]
		if mine == nil {
			mine = addresses[""]
		}
		var base []byte
		if hostNetwork {
			base = read("/etc/hosts")
		}
		resolv := read("/etc/resolv.conf")
		if !hostNetwork && onlyLoopback(resolv) {
			// systemd-resolved listens on the host's loopback; this is what it asks itself.
			if upstream := read("/run/systemd/resolve/resolv.conf"); len(upstream) > 0 {
				resolv = upstream
			}
		}
		dir := r.etcDir(t.ID, i)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for name, content := range map[string][]byte{
			"hosts":       hostsFile(base, hostname, mine, c, addresses),
			"resolv.conf": resolvConf(resolv, c, !hostNetwork),
			"hostname":    []byte(hostname + "\n"),
		} {
			if err := writeInPlace(filepath.Join(dir, name), content); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeInPlace gives a file this content and keeps it the same file. World-readable:
// containers run as any user.
func writeInPlace(file string, content []byte) error {
	if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, content) {
		return nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Chmod(0o644), f.Close())
}

// hostsFile is a container's /etc/hosts: the host's own where it shares the host's network,
// else the usual local names and its own name; then links and extraHosts. Pure.
func hostsFile(base []byte, hostname string, own []netip.Addr, c spec.ContainerDefinition, addresses map[string][]netip.Addr) []byte {
	var b bytes.Buffer
	if base != nil {
		b.Write(base)
		if !bytes.HasSuffix(base, []byte("\n")) {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n")
		b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n")
		b.WriteString("fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
		for _, ip := range own {
			fmt.Fprintf(&b, "%s\t%s\n", ip, hostname)
		}
		if len(own) == 0 && hostname != "" {
			fmt.Fprintf(&b, "127.0.0.1\t%s\n", hostname)
		}
	}
	for _, link := range c.Links {
		name, alias, _ := strings.Cut(link, ":")
		names := name
		if alias != "" && alias != name {
			names = alias + " " + name
		}
		for _, ip := range addresses[name] {
			fmt.Fprintf(&b, "%s\t%s\n", ip, names)
		}
	}
	for _, h := range c.ExtraHosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.IPAddress, h.Hostname)
	}
	return b.Bytes()
}

// resolvConf is a container's /etc/resolv.conf: the host's, with what the definition says
// in place of it. Name servers on the host's loopback are left out where the container has
// a network of its own: it cannot reach them. Pure.
func resolvConf(host []byte, c spec.ContainerDefinition, ownNetwork bool) []byte {
	var b bytes.Buffer
	for line := range strings.Lines(string(host)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if len(c.DNSServers) > 0 || len(fields) > 1 && ownNetwork && isLoopback(fields[1]) {
				continue
			}
		case "search", "domain":
			if len(c.DNSSearchDomains) > 0 {
				continue
			}
		}
		b.WriteString(strings.Join(fields, " ") + "\n")
	}
	if len(c.DNSSearchDomains) > 0 {
		b.WriteString("search " + strings.Join(c.DNSSearchDomains, " ") + "\n")
	}
	for _, s := range c.DNSServers {
		b.WriteString("nameserver " + s + "\n")
	}
	return b.Bytes()
}

func isLoopback(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Unmap().IsLoopback()
}

// onlyLoopback reports whether a resolv.conf names no server that a container could reach.
func onlyLoopback(conf []byte) bool {
	for line := range strings.Lines(string(conf)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" && !isLoopback(f[1]) {
			return false
		}
	}
	return true
}
