package starter

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/sdnotify"
)

// notifier is the service notifier that started us, if it wants to be told how things are
// (sd_notify(3)).
type notifier struct {
	address    string        // "" where there is none
	watchdog   time.Duration // how often to say that we live, 0 for never
	lastPing   time.Time     // when we last did
	sendFailed bool          // the last message did not get through
}

func newManager() *notifier {
	return &notifier{address: os.Getenv("NOTIFY_SOCKET"), watchdog: watchdog()}
}

// watchdog is half of what sd_watchdog_enabled(3) asks for.
func watchdog() time.Duration {
	pid := os.Getenv("WATCHDOG_PID")
	if pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 48)
	if err != nil {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// notify sends a message. The first of several failures in a row is returned:
// the service goes on without its manager.
func (m *notifier) notify(state string) error {
	if m.address == "" {
		return nil
	}
	if strings.HasPrefix(state, "RELOADING=1\n") {
		state = fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\n%s", monotonic().Microseconds(), strings.TrimPrefix(state, "RELOADING=1\n"))
	}
	err := sdnotify.Send(m.address, state)
	first := err != nil && !m.sendFailed
	m.sendFailed = err != nil
	if first {
		return fmt.Errorf("tell the service manager at NOTIFY_SOCKET=%q: %w", m.address, err)
	}
	return nil
}

// chores says that we live where that is asked for, and when to call again.
func (m *notifier) chores() time.Duration {
	if m.address == "" || m.watchdog == 0 {
		return 0
	}
	if time.Since(m.lastPing) >= m.watchdog {
		_ = m.notify("WATCHDOG=1")
		m.lastPing = time.Now()
	}
	return m.watchdog - time.Since(m.lastPing)
}

// monotonic is the time of the clock that the service manager goes by.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
