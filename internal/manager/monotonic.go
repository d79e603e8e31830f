//go:build !netbsd

package manager

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic returns the time on the clock that MONOTONIC_USEC refers to.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
