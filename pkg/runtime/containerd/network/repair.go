package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Repair compares bridge, sysctls, interfaces and table with what they should be, puts
// back what is missing, sees to it that other firewalls let the bridge pass, and removes
// interfaces that belong to nothing. When all is in place it changes nothing and takes
// about a millisecond.
func (n *Network) Repair(ctx context.Context) (err error) {
	defer n.metrics.observe("repair", time.Now(), &err)
	made, err := n.repairBridge()
	if err != nil {
		return err
	}
	if err := n.repairForwarding(); err != nil {
		return err
	}
	replaced, err := n.table.repair()
	if err != nil {
		return err
	}
	if made || replaced {
		n.log.Info("the container network was made or put back", "bridge_made", made, "table_replaced", replaced)
	}
	if err := n.repairLinks(ctx); err != nil {
		return err
	}
	passed, err := n.passForeign()
	if err != nil { // everything of ours is in place
		n.log.Warn("other firewalls on this host could not be looked at; they may stop forwarded packets", "error", err)
	}
	for _, where := range passed {
		n.log.Warn("another firewall would have stopped forwarded packets: added rules that let the bridge pass", "where", where)
	}
	n.tellLegacy()
	return ctx.Err()
}

// repairBridge makes the bridge or puts it right.
func (n *Network) repairBridge() (made bool, err error) {
	index, made, err := n.ensureBridge()
	if err != nil {
		return made, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bridge = index
	return made, nil
}

func (n *Network) repairForwarding() error {
	ifaces4, err := n.addressed(netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	var ifaces6 []string
	if n.v6 {
		if ifaces6, err = n.addressed(netlink.FAMILY_V6); err != nil {
			return err
		}
	}
	had4, had6 := n.table.opened()
	now4, now6, err := forwardTo(n.layout.bridge, ifaces4, ifaces6, had4, had6, n.v6)
	return errors.Join(err, n.table.setOpened(now4, now6))
}

// repairLinks puts the interfaces of attachments back into the bridge, and makes again
// those that are gone while their namespace is not.
func (n *Network) repairLinks(ctx context.Context) error {
	links, err := whole(n.links.LinkList)
	if err != nil {
		return fmt.Errorf("interfaces of the host: %w", err)
	}
	byName := map[string]netlink.Link{}
	for _, l := range links {
		byName[l.Attrs().Name] = l
	}
	n.mu.Lock()
	bridge := n.bridge
	var broken []Attachment
	ours := map[string]bool{}
	for _, a := range n.attached {
		ours[a.HostInterface] = true
		l, is := byName[a.HostInterface]
		if a.HostInterface != "" && (!is || l.Attrs().MasterIndex != bridge || l.Attrs().Flags&net.FlagUp == 0) {
			broken = append(broken, a)
		}
	}
	n.mu.Unlock()
	for _, a := range broken {
		if ctx.Err() != nil || !n.has(a.ID) || !pinned(a.Namespace) {
			continue
		}
		if err := n.plug(a, bridge); err != nil && n.has(a.ID) {
			n.log.Warn("a container's interface could not be put back; trying again", "container", a.ID, "error", err)
		}
	}
	for _, l := range links {
		if name := l.Attrs().Name; n.isHostSide(l) && !ours[name] {
			_ = n.links.LinkDel(l) // it may be dying by itself
		}
	}
	return nil
}

func (n *Network) has(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, is := n.attached[id]
	return is
}

func (n *Network) isHostSide(l netlink.Link) bool {
	return l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, n.layout.veth) && len(l.Attrs().Name) == len(n.layout.veth)+vethRandom
}

// sweepLinks deletes every host side of this bridge that belongs to no attachment.
func (n *Network) sweepLinks() error {
	links, err := whole(n.links.LinkList)
	if err != nil {
		return fmt.Errorf("interfaces of the host: %w", err)
	}
	for _, l := range links {
		if !n.isHostSide(l) {
			continue
		}
		if err := n.links.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove interface %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

// sweepPins removes the pins that belong to no attachment.
func (n *Network) sweepPins() error {
	entries, err := os.ReadDir(n.layout.pins)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if _, is := n.attached[e.Name()]; !is {
			err = errors.Join(err, unpin(filepath.Join(n.layout.pins, e.Name())))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// tellLegacy warns, once, of a firewall we can neither see nor mend.
func (n *Network) tellLegacy() {
	legacy := legacyTables()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(legacy) > 0 && !n.legacy {
		n.log.Warn("this host has rules of the legacy iptables, which ecsd cannot read: if containers cannot be reached, let the bridge pass there",
			"families", strings.Join(legacy, " "), "try", "iptables-legacy -I FORWARD -i "+n.layout.bridge+" -j ACCEPT; iptables-legacy -I FORWARD -o "+n.layout.bridge+" -j ACCEPT")
	}
	n.legacy = len(legacy) > 0
}
