package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sockets reserves host ports, so that a program on the host that wants one is told
// EADDRINUSE instead of never being heard: the kernel translates a published port before
// it looks for a socket.
//
// For each TCP port there is a socket bound to 0.0.0.0 that does not listen: should the
// rule set be lost, a connection is refused rather than accepted by nobody. And there is
// one that listens on ::1, which the kernel cannot publish (it drops what was translated
// from ::1), behind which run serves as a proxy. For UDP there is the bound one alone.
// All of this is over when the agent ends; the rule set is not.
type sockets struct {
	v6  bool
	log *slog.Logger

	mu   sync.Mutex // guards all below
	held map[hostPort]*socket
	// changed wakes run when there is a listener it does not serve yet.
	changed chan struct{}
}

// socket is one reserved port.
type socket struct {
	bound   int          // file descriptor; -1: could not be had, which does no harm
	loop    net.Listener // on ::1; nil: none
	served  bool
	targets []proxyTarget
}

// proxyTarget is one backend, by its addresses in the order to try them.
type proxyTarget []netip.AddrPort

func newSockets(v6 bool, log *slog.Logger) *sockets {
	return &sockets{v6: v6, log: log, held: map[hostPort]*socket{}, changed: make(chan struct{}, 1)}
}

// reserve takes a port and says where its ::1 leads. Taken already, only the latter
// changes. A *PortInUseError says that a program on the host has it.
func (s *sockets) reserve(p hostPort, to ...proxyTarget) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, is := s.held[p]; is {
		have.targets = to
		return nil
	}
	sock := &socket{targets: to}
	var err error
	if sock.bound, err = bindAny(p); err == nil && s.v6 && p.proto == "tcp" {
		sock.loop, err = listenLoopback(p.port)
	}
	if errors.Is(err, unix.EADDRINUSE) {
		if name, found := listener(p); found {
			sock.close()
			return &PortInUseError{Port: p.port, Protocol: p.proto, Holder: name}
		}
		err = nil // an outgoing connection or one that ended lately: no reason not to publish
	}
	if err != nil {
		s.log.Warn("a published port could not be reserved; it works, but a program on the host may take it too", "port", p.String(), "error", err)
	}
	s.held[p] = sock
	if sock.loop != nil {
		s.wake()
	}
	return nil
}

// release lets go of ports. What the proxy has accepted goes on.
func (s *sockets) release(ports ...hostPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ports {
		if sock := s.held[p]; sock != nil {
			sock.close()
			delete(s.held, p)
		}
	}
}

func (s *sockets) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, sock := range s.held {
		sock.close()
		delete(s.held, p)
	}
}

func (s *sockets) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *socket) close() {
	if s.bound >= 0 {
		_ = unix.Close(s.bound)
		s.bound = -1
	}
	if s.loop != nil {
		_ = s.loop.Close()
	}
}

// bindAny binds a socket to the port on all IPv4 addresses. Without SO_REUSEADDR nobody
// else can bind it then, on any of them, nor on [::].
func bindAny(p hostPort) (fd int, err error) {
	kind := unix.SOCK_STREAM
	if p.proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(p.port)}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	if p.proto == "udp" {
		// Nothing reads it; what strays in while the rule set is lost must not pile up.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
	}
	return fd, nil
}

func listenLoopback(port uint16) (net.Listener, error) {
	l, err := net.ListenTCP("tcp6", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.IPv6Loopback(), port)))
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil // no ::1 here
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// run serves the listeners until ctx ends, and returns when all it began has ended.
func (s *sockets) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	defer s.closeAll()
	for {
		s.mu.Lock()
		for p, sock := range s.held {
			if sock.loop != nil && !sock.served {
				sock.served = true
				all.Go(func() { s.serve(ctx, p, sock, &all) })
			}
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		}
	}
}

func (s *sockets) serve(ctx context.Context, p hostPort, sock *socket, all *sync.WaitGroup) {
	for {
		c, err := sock.loop.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely
			s.log.Warn("::1 proxy cannot accept", "port", p.String(), "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		s.mu.Lock()
		to := sock.targets
		s.mu.Unlock()
		all.Go(func() { proxy(ctx, c.(*net.TCPConn), to) })
	}
}

// proxy connects a client to one of the targets, chosen at random; when that refuses, to
// the next.
func proxy(ctx context.Context, client *net.TCPConn, to []proxyTarget) {
	defer func() { _ = client.Close() }()
	server, err := dialOne(ctx, to)
	if err != nil {
		_ = client.SetLinger(0) // the client sees a reset, as from a port that is closed
		return
	}
	defer func() { _ = server.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = client.Close(); _ = server.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { copyHalf(server, client) })
	both.Go(func() { copyHalf(client, server) })
	both.Wait()
}

// copyHalf copies one direction and passes its end on.
func copyHalf(to, from *net.TCPConn) {
	if _, err := to.ReadFrom(from); err != nil {
		_ = to.SetLinger(0) // broken: break both
		_ = to.Close()
		_ = from.Close()
		return
	}
	_ = to.CloseWrite()
}

const dialTimeout = 3 * time.Second

func dialOne(ctx context.Context, to []proxyTarget) (*net.TCPConn, error) {
	err := fmt.Errorf("no backend")
	if len(to) == 0 {
		return nil, err
	}
	start := rand.IntN(len(to))
	for i := range to {
		for _, a := range to[(start+i)%len(to)] {
			var c net.Conn
			d := net.Dialer{Timeout: dialTimeout}
			if c, err = d.DialContext(ctx, "tcp", a.String()); err == nil {
				return c.(*net.TCPConn), nil
			}
		}
	}
	return nil, err
}
