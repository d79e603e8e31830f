// Package manager tells the service manager what the superdaemon does (sd_notify(3)).
package manager

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/sdnotify"
)

// retryNotify is the time between attempts to send messages for which the queue of the service
// manager had no room.
const retryNotify = 100 * time.Millisecond

// Manager reports to the service manager that started this process, if there is one
// (sd_notify(3)).
type Manager struct {
	address    string        // "" if there is none
	watchdog   time.Duration // between two pings, 0 for none
	lastPing   time.Time
	unsent     []string // messages that found the queue full, oldest first
	sendFailed bool     // the last message was not sent
	report     func(line string)
}

// New returns the manager that NOTIFY_SOCKET names. report is called with log lines.
func New(report func(line string)) *Manager {
	return &Manager{address: os.Getenv("NOTIFY_SOCKET"), watchdog: watchdog(), report: report}
}

// watchdog returns half of the interval in sd_watchdog_enabled(3), or 0 if there is none.
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

// Notify sends a message, or keeps it until the queue of the service manager has room. It reports
// the first of several failures in a row; the superdaemon keeps running without its manager.
func (n *Manager) Notify(message string) {
	if n.address == "" {
		return
	}
	if rest, ok := strings.CutPrefix(message, "RELOADING=1\n"); ok {
		message = fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\n%s", monotonic().Microseconds(), rest)
	}
	n.unsent = queue(n.unsent, message)
	n.send()
}

// queue adds a message to those that are not sent yet. It keeps the beginning and the end of a
// reload, which the service manager must see, and only the latest status.
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

// send sends the unsent messages for which there is room.
func (n *Manager) send() {
	for len(n.unsent) > 0 {
		err := sdnotify.Send(n.address, n.unsent[0])
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		n.unsent = n.unsent[1:]
		if err != nil && !n.sendFailed {
			n.report(lines.NotNotified(n.address, err))
		}
		n.sendFailed = err != nil
	}
}

// RunPending sends the unsent messages, and WATCHDOG=1 when it is due. It returns the time until it
// has to be called again.
func (n *Manager) RunPending() time.Duration {
	n.send()
	wait := deadline.Never
	if n.address != "" && n.watchdog > 0 {
		if time.Since(n.lastPing) >= n.watchdog {
			_ = sdnotify.Send(n.address, "WATCHDOG=1") // if it fails, the next one follows
			n.lastPing = time.Now()
		}
		wait = max(n.watchdog-time.Since(n.lastPing), 1)
	}
	if len(n.unsent) > 0 {
		wait = min(wait, retryNotify)
	}
	return wait
}

// QueueState is what crosses an upgrade.
type QueueState struct {
	Unsent []string `json:"unsent"` // messages
}

// State returns the present state.
func (n *Manager) State() QueueState { return QueueState{n.unsent} }

// Resume continues from the state before an upgrade.
func (n *Manager) Resume(s QueueState) { n.unsent = s.Unsent }
