package runtime

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
})

// Now is this moment by the machine's boot clock. It is what agents pass on as their
// clock; tests under testing/synctest pass one that follows time.Now.
func Now() Time {
	var ts unix.Timespec
	// CLOCK_BOOTTIME exists since Linux 2.6.39 and cannot fail with a valid pointer.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return Time{Boot: bootID(), At: time.Duration(ts.Nano()), Wall: time.Now()}
}
