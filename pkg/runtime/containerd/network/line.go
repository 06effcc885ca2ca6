package network

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// line is an open line to the kernel's nftables.
type line struct {
	*nftables.Conn
	ask *nl.SocketHandle // for what nftables.Conn cannot ask
}

// dial opens a line in the network namespace of the process.
func dial() (*line, error) {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(setBuffers))
	if err != nil {
		return nil, err
	}
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, errors.Join(err, c.CloseLasting())
	}
	return &line{c, &nl.SocketHandle{Socket: s}}, nil
}

func (l *line) close() {
	_ = l.CloseLasting()
	l.ask.Close()
}

// generation is the number of the kernel's nftables rule set: it grows with each change
// to any table of this network namespace.
func (l *line) generation() (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: l.ask}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN)
	if err != nil {
		return 0, fmt.Errorf("nftables generation: %w", err)
	}
	for _, a := range answers {
		attrs, err := nl.ParseRouteAttr(a[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("nftables generation: %w", err)
		}
		for _, attr := range attrs {
			if attr.Attr.Type == unix.NFTA_GEN_ID && len(attr.Value) == 4 {
				return binary.BigEndian.Uint32(attr.Value), nil
			}
		}
	}
	return 0, fmt.Errorf("nftables generation: the kernel's answer has none")
}

// setBuffers lets a batch with thousands of elements through.
func setBuffers(c *mdnetlink.Conn) error {
	if err := c.SetWriteBuffer(4 << 20); err != nil {
		return err
	}
	return c.SetReadBuffer(4 << 20)
}
