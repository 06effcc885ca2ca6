package localapi

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Peer is who is at the other end of a connection, as the kernel says it.
type Peer struct {
	UID, GID uint32
	PID      int32
	Known    bool // false: the kernel gave no credentials, so nothing that acts is allowed
}

type peerKey struct{}

// withPeer is http.Server's ConnContext: it asks the kernel once a connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

func peerOf(c net.Conn) Peer {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return Peer{}
	}
	return Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Known: true}
}

// authorize decides whether a caller may do an operation. Looking is for everybody whom
// the socket's file mode lets in; acting is for root and for the agent's own user.
func authorize(p Peer, agentUID int, name string, acts bool) error {
	if !acts || p.Known && (p.UID == 0 || int64(p.UID) == int64(agentUID)) {
		return nil
	}
	who := "an unknown user"
	if p.Known {
		who = fmt.Sprintf("user %d", p.UID)
	}
	return &Error{CodeDenied, fmt.Sprintf("%s may look, but not %s: run the command as root", who, name)}
}

func agentUID() int { return os.Geteuid() }
