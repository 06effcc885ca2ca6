package network

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Remove takes away all that Networks of this Config ever made on the machine: table,
// bridge, interfaces, pins, and the rules in other firewalls. Sysctls stay. No agent may
// be using it; containers that still run lose their network. Removed already, it does
// nothing. It is for tests and for taking ecsd off a host.
func Remove(ctx context.Context, c Config) error {
	n, err := newNetwork(Config{Bridge: c.Bridge, CIDR: c.CIDR, RunDir: c.RunDir, Log: c.Log})
	if err != nil {
		return err
	}
	defer n.Close()
	err = errors.Join(n.table.remove(), n.unpassForeign(), n.sweepPins(), n.sweepLinks())
	if link, lerr := n.links.LinkByName(n.layout.bridge); lerr == nil && link.Type() == "bridge" {
		err = errors.Join(err, wrap(n.links.LinkDel(link), "remove bridge %s", n.layout.bridge))
	}
	if uerr := unix.Unmount(n.layout.pins, unix.MNT_DETACH); uerr != nil && !errors.Is(uerr, unix.EINVAL) && !errors.Is(uerr, unix.ENOENT) {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", n.layout.pins, uerr))
	}
	return errors.Join(err, os.RemoveAll(n.layout.pins), os.RemoveAll(n.layout.services))
}
