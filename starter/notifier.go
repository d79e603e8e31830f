package starter

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/sdnotify"
)

// retryNotify is the time between attempts to send what the queue of the service manager had no
// room for.
const retryNotify = 100 * time.Millisecond

// notifier reports to the service manager that started this process, if there is one (sd_notify(3)).
type notifier struct {
	address    string        // "" if there is none
	watchdog   time.Duration // between two pings, 0 for none
	lastPing   time.Time
	unsent     []string // messages that found the queue full, oldest first
	sendFailed bool     // the last message did not get through
	report     func(line string)
}

func newNotifier(report func(line string)) *notifier {
	return &notifier{address: os.Getenv("NOTIFY_SOCKET"), watchdog: watchdog(), report: report}
}

// watchdog returns half of what sd_watchdog_enabled(3) asks for.
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

// notify sends a message, or keeps it until the queue of the service manager has room. The first of
// several failures in a row is reported: the service keeps running without its manager.
func (n *notifier) notify(message string) {
	if n.address == "" {
		return
	}
	if rest, ok := strings.CutPrefix(message, "RELOADING=1\n"); ok {
		message = fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\n%s", monotonic().Microseconds(), rest)
	}
	n.unsent = queue(n.unsent, message)
	n.send()
}

// queue adds a message to those that are not sent yet. It keeps what the service manager must see,
// a reload and its end, and only the latest status.
func queue(unsent []string, message string) []string {
	last := len(unsent) - 1
	switch {
	case last < 0:
	case strings.HasPrefix(message, "RELOADING=1"), strings.HasPrefix(message, "STOPPING=1"):
		unsent = nil
	case strings.HasPrefix(message, "READY=1"):
		if !strings.HasPrefix(unsent[last], "RELOADING=1") {
			unsent = unsent[:last]
		}
	default:
		state, _, _ := strings.Cut(unsent[last], "STATUS=")
		unsent, message = unsent[:last], state+message
	}
	return append(unsent, message)
}

// send sends what is unsent, as far as there is room for it.
func (n *notifier) send() {
	for len(n.unsent) > 0 {
		err := sdnotify.Send(n.address, n.unsent[0])
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		n.unsent = n.unsent[1:]
		if err != nil && !n.sendFailed {
			n.report(fmt.Sprintf("notify the service manager at NOTIFY_SOCKET=%q: %v", n.address, err))
		}
		n.sendFailed = err != nil
	}
}

// runPending sends what is unsent, and WATCHDOG=1 if the service manager asks for it.
func (n *notifier) runPending() time.Duration {
	n.send()
	var wait time.Duration
	if n.address != "" && n.watchdog > 0 {
		if time.Since(n.lastPing) >= n.watchdog {
			_ = sdnotify.Send(n.address, "WATCHDOG=1") // the next one is as good
			n.lastPing = time.Now()
		}
		wait = max(n.watchdog-time.Since(n.lastPing), 1)
	}
	if len(n.unsent) > 0 && (wait == 0 || wait > retryNotify) {
		wait = retryNotify
	}
	return wait
}

func (n *notifier) save(u *upgradeState) { u.Unsent = n.unsent }

func (n *notifier) resume(u *upgradeState) { n.unsent = u.Unsent }

// monotonic returns the time of the clock that the service manager compares with.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
