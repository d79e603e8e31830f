package manager

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/deadline"
)

// newManager makes a NOTIFY_SOCKET of a service manager for this process. receive returns the next
// message to it.
func newManager(t *testing.T) (receive func() string, closeSocket func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	receive = func() string {
		t.Helper()
		buf := make([]byte, 4096)
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	return receive, func() { conn.Close() }
}

func TestNotifier(t *testing.T) {
	received, closeSocket := newManager(t)
	var lines []string
	n := New(func(line string) { lines = append(lines, line) })
	n.Notify("READY=1\nSTATUS=x")
	if got := received(); got != "READY=1\nSTATUS=x" {
		t.Errorf("%q", got)
	}
	before := monotonic().Microseconds()
	n.Notify("RELOADING=1\nSTATUS=x")
	got := received()
	var usec int64
	if _, err := fmt.Sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%d\n", &usec); err != nil || usec < before || usec > monotonic().Microseconds() {
		t.Errorf("%q, want a time after %d usec (%v)", got, before, err)
	}
	if !regexp.MustCompile(`\nSTATUS=x$`).MatchString(got) {
		t.Errorf("%q", got)
	}
	closeSocket()
	n.Notify("STATUS=y")
	n.Notify("STATUS=y")
	if len(lines) != 1 || !strings.Contains(lines[0], "notify the service manager at NOTIFY_SOCKET=") {
		t.Errorf("reported %q", lines)
	}
}

// TestNotifierFullQueue checks that messages are kept while the queue is full, and sent when there
// is room.
func TestNotifierFullQueue(t *testing.T) {
	received, _ := newManager(t)
	n := New(func(line string) { t.Error(line) })
	filled := 0
	for ; len(n.unsent) == 0; filled++ {
		n.Notify("STATUS=filling")
	}
	n.Notify("RELOADING=1\nSTATUS=1")
	n.Notify("STATUS=2")
	n.Notify("READY=1\nSTATUS=3")
	n.Notify("STATUS=4")
	if wait := n.RunPending(); wait != retryNotify {
		t.Errorf("runPending = %s, want %s", wait, retryNotify)
	}
	for range filled - 1 {
		received()
	}
	if wait := n.RunPending(); wait != deadline.Never {
		t.Errorf("runPending = %s, want 0", wait)
	}
	first, second := received(), received()
	if !strings.HasPrefix(first, "RELOADING=1\nMONOTONIC_USEC=") || !strings.HasSuffix(first, "\nSTATUS=2") || second != "READY=1\nSTATUS=4" {
		t.Errorf("received %q and %q", first, second)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ sent, want string }{
		{"STATUS=1|STATUS=2", "STATUS=2"},
		{"READY=1\nSTATUS=1|STATUS=2", "READY=1\nSTATUS=2"},
		{"STATUS=1|READY=1\nSTATUS=2", "READY=1\nSTATUS=2"},
		{"RELOADING=1\nSTATUS=1|READY=1\nSTATUS=2", "RELOADING=1\nSTATUS=1|READY=1\nSTATUS=2"},
		{"RELOADING=1\nSTATUS=1|READY=1\nSTATUS=2|RELOADING=1\nSTATUS=3", "RELOADING=1\nSTATUS=3"},
		{"READY=1\nSTATUS=1|STOPPING=1\nSTATUS=2|STATUS=3", "STOPPING=1\nSTATUS=3"},
	} {
		var unsent []string
		for message := range strings.SplitSeq(test.sent, "|") {
			unsent = queue(unsent, message)
		}
		if got := strings.Join(unsent, "|"); got != test.want {
			t.Errorf("%q: unsent are %q, want %q", test.sent, got, test.want)
		}
	}
}

func TestNotifierWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000000")
	n := New(func(line string) { t.Error(line) })
	n.Notify("READY=1")
	if wait := n.RunPending(); wait != deadline.Never {
		t.Errorf("runPending = %s", wait)
	}
}

func TestWatchdog(t *testing.T) {
	for _, test := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"2000000", "", time.Second},
		{"2000000", fmt.Sprint(os.Getpid()), time.Second},
		{"2000000", "1", 0},
		{"0", "", 0},
		{"-1", "", 0},
		{"soon", "", 0},
		{"99999999999999999999", "", 0},
	} {
		t.Setenv("WATCHDOG_USEC", test.usec)
		t.Setenv("WATCHDOG_PID", test.pid)
		if got := watchdog(); got != test.want {
			t.Errorf("WATCHDOG_USEC=%q WATCHDOG_PID=%q: %s, want %s", test.usec, test.pid, got, test.want)
		}
	}
}

func TestWatchdogPings(t *testing.T) {
	received, _ := newManager(t)
	t.Setenv("WATCHDOG_USEC", "7200000000")
	t.Setenv("WATCHDOG_PID", "")
	n := New(func(line string) { t.Error(line) })
	if wait := n.RunPending(); wait <= 0 || wait > time.Hour {
		t.Errorf("runPending = %s", wait)
	}
	if got := received(); got != "WATCHDOG=1" {
		t.Errorf("%q", got)
	}
	pinged := n.lastPing
	if n.RunPending(); n.lastPing != pinged {
		t.Error("a ping before it is due")
	}
	n.lastPing = pinged.Add(-time.Hour)
	n.RunPending()
	if got := received(); got != "WATCHDOG=1" {
		t.Errorf("%q", got)
	}
}

// TestClock checks that setting the system's clock does not affect the watchdog: a time with a
// reading of the monotonic clock prints with " m=".
func TestClock(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/no/such")
	n := New(func(string) {})
	n.watchdog = time.Second
	n.RunPending()
	if !strings.Contains(n.lastPing.String(), " m=") {
		t.Errorf("the last ping of the watchdog has no monotonic clock reading: %s", n.lastPing)
	}
}
