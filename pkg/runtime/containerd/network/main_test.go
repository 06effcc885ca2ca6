package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The tests that touch the kernel run in a copy of this test program with a network and a
// mount namespace of its own: its network namespace plays the host. The machine's rules,
// sysctls and mounts are not touched.

const insideEnv = "ECSD_NETWORK_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(insideEnv) == "" {
		c := exec.Command("/proc/self/exe", os.Args[1:]...)
		c.Env = append(os.Environ(), insideEnv+"=1")
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
		err := c.Run()
		var exit *exec.ExitError
		switch {
		case err == nil:
			os.Exit(0)
		case errors.As(err, &exit):
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "cannot run in namespaces of its own:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// needHost skips a test where there is no namespace to play the host.
func needHost(t testing.TB) {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("CI must run these tests as root")
		}
		t.Skip("SKIPPED: needs root, to make network namespaces")
	}
	h := must(netlink.NewHandle(unix.NETLINK_ROUTE))(t)
	defer h.Close()
	check(t, h.LinkSetUp(must(h.LinkByName("lo"))(t)))
	// Every refusal of a UDP packet must be heard.
	check(t, setSysctl("ipv4/icmp_ratelimit", "0"))
	check(t, setSysctl("ipv6/icmp/ratelimit", "0"))
}

// world is a host with a neighbour: a namespace "outside" on a veth pair.
type world struct {
	*Network
	config  Config
	outside string // path of the namespace
}

var (
	hostAddr4, outAddr4 = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	hostAddr6, outAddr6 = netip.MustParseAddr("fd09::1"), netip.MustParseAddr("fd09::2")
)

func newWorld(t testing.TB) *world {
	t.Helper()
	needHost(t)
	w := &world{outside: filepath.Join(t.TempDir(), "outside")}
	newOutside(t, w.outside)
	w.config = Config{Bridge: "ecsdt0", CIDR: netip.MustParsePrefix("10.79.0.0/24"), RunDir: t.TempDir(), DynamicPorts: [2]uint16{40000, 40999}}
	if testing.Verbose() {
		w.config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	t.Cleanup(func() { check(t, Remove(context.Background(), w.config)) })
	w.open(t)
	t.Cleanup(func() { w.Close() })
	return w
}

// open opens the network, again, with what was attached.
func (w *world) open(t testing.TB, existing ...Attachment) {
	t.Helper()
	if w.Network != nil {
		w.Close()
	}
	w.Network = must(Open(t.Context(), w.config, existing))(t)
}

// run serves until the test ends.
func (w *world) run(t testing.TB) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
	})
}

func newOutside(t testing.TB, path string) {
	t.Helper()
	check(t, newNamespace(path, func() error { return nil }))
	h := must(netlink.NewHandle(unix.NETLINK_ROUTE))(t)
	defer h.Close()
	ns := must(os.Open(path))(t)
	defer func() { _ = ns.Close() }()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	v := netlink.NewVeth(attrs)
	v.PeerName, v.PeerNamespace = "eth0", netlink.NsFd(int(ns.Fd()))
	check(t, h.LinkAdd(v))
	t.Cleanup(func() {
		h := must(netlink.NewHandle(unix.NETLINK_ROUTE))(t)
		defer h.Close()
		check(t, h.LinkDel(v))
		check(t, unpin(path))
	})
	out := must(netlink.NewHandleAt(netns.NsHandle(int(ns.Fd())), unix.NETLINK_ROUTE))(t)
	defer out.Close()
	for _, side := range []struct {
		h      *netlink.Handle
		name   string
		v4, v6 netip.Addr
	}{{h, "up0", hostAddr4, hostAddr6}, {out, "eth0", outAddr4, outAddr6}} {
		l := must(side.h.LinkByName(side.name))(t)
		check(t, side.h.AddrReplace(l, address(netip.PrefixFrom(side.v4, 24))))
		check(t, side.h.AddrReplace(l, address(netip.PrefixFrom(side.v6, 64))))
		check(t, side.h.LinkSetUp(l))
	}
	check(t, out.LinkSetUp(must(out.LinkByName("lo"))(t)))
	// The neighbour knows a way to everything by the host.
	eth := must(out.LinkByName("eth0"))(t)
	for _, g := range []netip.Addr{hostAddr4, hostAddr6} {
		check(t, out.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: g.AsSlice(), Dst: anyNet(g)}))
	}
}

// attach attaches a container and detaches it when the test ends.
func (w *world) attach(t testing.TB, id string, ports ...PortRequest) Attachment {
	t.Helper()
	a := must(w.Attach(t.Context(), Request{ID: id, Ports: ports}, nil))(t)
	t.Cleanup(func() { check(t, w.Detach(context.Background(), a)) })
	return a
}

// serve answers on a port in a namespace ("": the host) with its name and the address it
// saw, then echoes, on TCP and UDP, IPv4 and IPv6, until the test ends.
func serve(t testing.TB, ns, name, addr string) {
	t.Helper()
	check(t, in(ns, func() error {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		p, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close(); _ = p.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					_, _ = fmt.Fprintf(c, "%s %s\n", name, addrOnly(c.RemoteAddr()))
					_, _ = io.Copy(c, c)
				}()
			}
		}()
		go func() {
			b := make([]byte, 2048)
			for {
				_, from, err := p.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = p.WriteTo([]byte(name+" "+addrOnly(from)+"\n"), from)
			}
		}()
		return nil
	}))
}

func addrOnly(a net.Addr) string {
	return netip.MustParseAddrPort(a.String()).Addr().Unmap().WithZone("").String()
}

// A packet that is not answered within soon counts as dropped, where that is what should
// happen. What should be answered may take as long as a busy machine needs.
const (
	soon  = 500 * time.Millisecond
	never = 15 * time.Second
)

// connect opens a connection from a namespace.
func connect(ns, network, to string) (net.Conn, error) { return connectWithin(never, ns, network, to) }

func connectWithin(patience time.Duration, ns, network, to string) (c net.Conn, err error) {
	err = in(ns, func() error {
		d := net.Dialer{Timeout: patience}
		c, err = d.Dial(network, to)
		return err
	})
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// try connects and says in a word what came of it: the greeting, or how it failed.
func try(ns, network, to string) string { return tryWithin(never, ns, network, to) }

func tryWithin(patience time.Duration, ns, network, to string) string {
	c, err := connectWithin(patience, ns, network, to)
	if err != nil {
		return outcome("", err)
	}
	defer func() { _ = c.Close() }()
	return outcome(greeting(c))
}

// expect tries, and fails the test when something else comes of it.
func expect(t *testing.T, ns, network, to, want string) {
	t.Helper()
	patience := never
	if want == "dropped" {
		patience = soon
	}
	if got := tryWithin(patience, ns, network, to); got != want {
		t.Errorf("%s %s: got %q, want %q", network, to, got, want)
	}
}

// greeting reads a server's first line, after a word of our own, which UDP needs.
func greeting(c net.Conn) (string, error) {
	if _, ok := c.(*net.UDPConn); ok {
		if _, err := c.Write([]byte("hello")); err != nil {
			return "", err
		}
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	return strings.TrimSpace(string(b[:n])), err
}

// echoes reports whether an established TCP connection is alive.
func echoes(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(never))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err := io.ReadFull(c, b)
	return err
}

// in runs f in a namespace; "" is the host's.
func in(ns string, f func() error) error {
	if ns == "" {
		return f()
	}
	return within(ns, f)
}

// outcome puts what happened to a connection into one word.
func outcome(answer string, err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return answer
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case errors.Is(err, unix.ECONNRESET):
		return "reset"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "dropped"
	}
	return err.Error()
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
