package process

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit in which the kernel reports when a process was started (USER_HZ is 100 on every
// system that Go runs on).
const tick = 10 * time.Millisecond

// CurrentTick returns the time on the clock of StartTick. It reports false if that clock cannot be
// read, or contradicts what StartTick returns for this process.
func CurrentTick() (uint64, bool) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, false
	}
	current := uint64(now.Nano() / int64(tick))
	own, ok := StartTick(os.Getpid())
	return current, ok && own > 0 && own <= current
}

// StartTick returns when a process was started, in hundredths of a second. It reports false if that
// is unknown: there is no such process, or /proc does not show it.
func StartTick(pid int) (uint64, bool) {
	s, ok := ReadStat(pid)
	return s.Started, ok
}
