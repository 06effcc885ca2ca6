package containerdtest

import (
	"os"
	"strconv"
	"time"
)

// Patience is how long a test waits for what another process does before it gives up: d,
// times the whole number in the environment variable ECSD_TEST_PATIENCE. A wait that
// succeeds takes no longer by it. It is for machines that are slow by nature, such as the
// emulated guest of `make test-vm`; an unset or unreadable factor is 1.
func Patience(d time.Duration) time.Duration {
	if factor, err := strconv.Atoi(os.Getenv("ECSD_TEST_PATIENCE")); err == nil && factor > 1 {
		return d * time.Duration(factor)
	}
	return d
}
