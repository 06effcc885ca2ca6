package network

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumpTries is how often a list is asked for that changes while the kernel writes it: on a
// busy host interfaces come and go all the time, but never so often in a row.
const dumpTries = 10

// whole asks the kernel for a list until it was written without a change in between. A list
// that was interrupted may lack what was there all the time; it is never acted on.
func whole[T any](dump func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		all, err := dump()
		if try == dumpTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
}
