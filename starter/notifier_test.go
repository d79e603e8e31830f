package starter

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// managed makes this process one that a service manager listens to.
func managed(t *testing.T) (said func() string, silence func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	said = func() string {
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
	return said, func() { conn.Close() }
}

func TestManager(t *testing.T) {
	said, silence := managed(t)
	m := newManager()
	if err := m.notify("READY=1\nSTATUS=x"); err != nil {
		t.Fatal(err)
	}
	if got := said(); got != "READY=1\nSTATUS=x" {
		t.Errorf("%q", got)
	}
	before := monotonic().Microseconds()
	if err := m.notify("RELOADING=1\nSTATUS=x"); err != nil {
		t.Fatal(err)
	}
	got := said()
	var usec int64
	if _, err := fmt.Sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%d\n", &usec); err != nil || usec < before || usec > monotonic().Microseconds() {
		t.Errorf("%q, and it is %d usec (%v)", got, before, err)
	}
	if !regexp.MustCompile(`\nSTATUS=x$`).MatchString(got) {
		t.Errorf("%q", got)
	}
	silence()
	if err := m.notify("STATUS=y"); err == nil || !strings.Contains(err.Error(), "tell the service manager at NOTIFY_SOCKET=") {
		t.Error(err)
	}
	if err := m.notify("STATUS=y"); err != nil {
		t.Errorf("complains again: %v", err)
	}
}

func TestManagerNone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000000")
	m := newManager()
	if err := m.notify("READY=1"); err != nil {
		t.Error(err)
	}
	if wait := m.chores(); wait != 0 {
		t.Errorf("it wants to be called after %s", wait)
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

func TestWatchdogChores(t *testing.T) {
	said, _ := managed(t)
	t.Setenv("WATCHDOG_USEC", "7200000000")
	t.Setenv("WATCHDOG_PID", "")
	m := newManager()
	if wait := m.chores(); wait <= 0 || wait > time.Hour {
		t.Errorf("it wants to be called after %s", wait)
	}
	if got := said(); got != "WATCHDOG=1" {
		t.Errorf("%q", got)
	}
	barked := m.lastPing
	if m.chores(); m.lastPing != barked {
		t.Error("it barks too often")
	}
	m.lastPing = barked.Add(-time.Hour)
	m.chores()
	if got := said(); got != "WATCHDOG=1" {
		t.Errorf("%q", got)
	}
}
