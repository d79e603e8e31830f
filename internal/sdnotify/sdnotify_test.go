package sdnotify

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listenT(t *testing.T) *Receiver {
	t.Helper()
	r, err := Listen("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func sendT(t *testing.T, address, state string) {
	t.Helper()
	if err := Send(address, state); err != nil {
		t.Fatal(err)
	}
}

func anyProcess(int, int) bool { return true }

func wantNext(t *testing.T, r *Receiver, trusted func(pid, uid int) bool, want Message) {
	t.Helper()
	if got, err := r.Next(trusted); err != nil || got != want {
		t.Fatalf("Next = %+v, %v; want %+v", got, err, want)
	}
}

func TestSendThenNext(t *testing.T) {
	r := listenT(t)
	sendT(t, r.Address(), "READY=1\nSTATUS=3 requests\nEXTEND_TIMEOUT_USEC=1500000")
	wantNext(t, r, anyProcess, Message{Ready: true, Status: "3 requests", HasStatus: true, Extend: 1500 * time.Millisecond})
	sendT(t, r.Address(), "STOPPING=1\nSTATUS=\n")
	wantNext(t, r, anyProcess, Message{HasStatus: true})
}

// TestFlood checks that a sender which sends too much is not listened to all the time, and that what
// is urgent does not wait.
func TestFlood(t *testing.T) {
	r := listenT(t)
	send := func(messages ...string) {
		for _, m := range messages {
			sendT(t, r.Address(), m)
		}
	}
	send("STATUS=1")
	wantNext(t, r, anyProcess, Message{Status: "1", HasStatus: true})
	if wait := time.Until(r.due); wait > interval {
		t.Errorf("the next message has to wait for %v", wait)
	}
	due := time.Now().Add(time.Second) // instead of interval, since this machine may be slow
	r.due = due
	send("STATUS=2", "WATCHDOG=1", "STATUS=3")
	wantNext(t, r, anyProcess, Message{Status: "3", HasStatus: true})
	if time.Now().Before(due) {
		t.Error("a message did not wait")
	}
	r.due = time.Now().Add(time.Hour) // what is urgent does not wait for it
	send("STATUS=4", "READY=1")
	wantNext(t, r, anyProcess, Message{Ready: true, Status: "4", HasStatus: true})
	r.due = time.Now().Add(time.Hour)
	send("EXTEND_TIMEOUT_USEC=1")
	wantNext(t, r, anyProcess, Message{Extend: time.Microsecond})
	r.due, r.extendedAt = time.Now().Add(time.Second), time.Now().Add(time.Hour)
	send("READY=1", "EXTEND_TIMEOUT_USEC=2", "STATUS=5", "EXTEND_TIMEOUT_USEC=3")
	wantNext(t, r, anyProcess, Message{Ready: true, Status: "5", HasStatus: true, Extend: 3 * time.Microsecond})

	r.due = time.Now().Add(time.Hour)
	send(ProcessVariable+"=1", ProcessVariable+"=2") // each is another process
	wantNext(t, r, anyProcess, Message{Process: "1"})
	r.due = time.Now().Add(time.Hour)
	wantNext(t, r, anyProcess, Message{Process: "2"})
	r.due = time.Time{}

	// Pause and Close lose nothing.
	send("STATUS=6")
	r.Pause()
	r.held.add(Message{Status: "5", HasStatus: true})
	wantNext(t, r, anyProcess, Message{Status: "5", HasStatus: true})
	if _, err := r.Next(anyProcess); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next = %v; want %v", err, os.ErrClosed)
	}
	r.Resume()
	wantNext(t, r, anyProcess, Message{Status: "6", HasStatus: true})
}

func TestNextWaits(t *testing.T) {
	r := listenT(t)
	type result struct {
		m   Message
		err error
	}
	results := make(chan result)
	next := func() {
		m, err := r.Next(anyProcess)
		results <- result{m, err}
	}
	go next()
	sendT(t, r.Address(), "READY=1")
	if a := <-results; a.err != nil || !a.m.Ready {
		t.Errorf("Next = %+v, %v", a.m, a.err)
	}
	go next()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if a := <-results; !errors.Is(a.err, os.ErrClosed) {
		t.Errorf("Next = %+v, %v; want %v", a.m, a.err, os.ErrClosed)
	}
	if _, err := r.Next(anyProcess); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next = %v; want %v", err, os.ErrClosed)
	}
}

func TestPause(t *testing.T) {
	r := listenT(t)
	woken := make(chan error)
	go func() {
		_, err := r.Next(anyProcess)
		woken <- err
	}()
	r.Pause()
	if err := <-woken; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next = %v; want %v", err, os.ErrClosed)
	}
	sendT(t, r.Address(), "READY=1")
	if _, err := r.Next(anyProcess); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Next = %v; want %v", err, os.ErrClosed)
	}
	r.Resume()
	wantNext(t, r, anyProcess, Message{Ready: true})
}

func TestNextDropsInvalidDatagrams(t *testing.T) {
	r := listenT(t)
	for _, junk := range []string{"", "\x00", "a\x00b", "READY=1\n" + strings.Repeat("x", maxDatagram), strings.Repeat("\x00", 2*maxDatagram)} {
		sendT(t, r.Address(), junk)
	}
	full := "STATUS=" + strings.Repeat("s", maxDatagram-len("STATUS="))
	sendT(t, r.Address(), full)
	wantNext(t, r, anyProcess, Message{Status: full[len("STATUS="):], HasStatus: true})
	sendT(t, r.Address(), "BARRIER=1")
	sendT(t, r.Address(), "READY=1")
	wantNext(t, r, anyProcess, Message{Ready: true})
}

func TestAdopt(t *testing.T) {
	r := listenT(t)
	sendT(t, r.Address(), "READY=1")
	// The duplicate is what a program finds after an exec: its close-on-exec flag is off.
	fd, err := unix.Dup(r.Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	adopted := Adopt(fd, r.Address())
	if adopted.Address() != r.Address() || adopted.Descriptor() != fd {
		t.Errorf("adopted %q, %d; want %q, %d", adopted.Address(), adopted.Descriptor(), r.Address(), fd)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags are %#x, %v; want FD_CLOEXEC", flags, err)
	}
	wantNext(t, adopted, anyProcess, Message{Ready: true})
	if err := adopted.file.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDescriptorsAreClosed passes the write end of a pipe, as sd_notify_barrier(3) does, and waits
// for the end of file at the read end.
func TestDescriptorsAreClosed(t *testing.T) {
	r := listenT(t)
	for _, state := range []string{"BARRIER=1", "\x00junk", strings.Repeat("x", maxDatagram+1)} {
		var pipe [2]int
		if err := unix.Pipe(pipe[:]); err != nil {
			t.Fatal(err)
		}
		fd, err := socket()
		if err != nil {
			t.Fatal(err)
		}
		err = unix.Sendmsg(fd, []byte(state), unix.UnixRights(pipe[1], pipe[1]), &unix.SockaddrUnix{Name: r.Address()}, 0)
		unix.Close(fd)
		unix.Close(pipe[1])
		if err != nil {
			t.Fatal(err)
		}
		sendT(t, r.Address(), "READY=1")
		for m := (Message{}); !m.Ready; {
			if m, err = r.Next(anyProcess); err != nil {
				t.Fatal(err)
			}
		}
		// The read returns end of file only after every copy of the write end is closed.
		if n, err := unix.Read(pipe[0], make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("%.9q: read = %d, %v; want end of file", state, n, err)
		}
		unix.Close(pipe[0])
	}
}

func TestSendErrors(t *testing.T) {
	r := listenT(t)
	full := error(nil)
	for range 100000 {
		if full = Send(r.Address(), "STATUS=again"); full != nil {
			break
		}
	}
	if !errors.Is(full, unix.EAGAIN) && !errors.Is(full, unix.ENOBUFS) {
		t.Errorf("Send to a full queue: %v", full)
	}
	for _, address := range []string{"", "relative", "vsock:2:1", filepath.Join(t.TempDir(), "none"), "/" + strings.Repeat("x", 200)} {
		if err := Send(address, "READY=1"); err == nil || !strings.Contains(err.Error(), "notify \""+address) {
			t.Errorf("Send to %q: %v", address, err)
		}
	}
}

func TestListenErrors(t *testing.T) {
	if !abstract {
		return
	}
	if r, err := Listen(strings.Repeat("x", 200)); err == nil || r != nil {
		t.Errorf("Listen = %v, %v; want an error", r, err)
	}
}

func TestParse(t *testing.T) {
	tests := map[string]Message{
		"READY=1":                            {Ready: true},
		"READY=1\x00":                        {Ready: true},
		"READY=0":                            {},
		"READY=1 ":                           {},
		"XREADY=1":                           {},
		"ready=1":                            {},
		"READY":                              {},
		"\n\nREADY=1\n\n":                    {Ready: true},
		"READY=1\nREADY=0":                   {Ready: true},
		"STATUS=a=b":                         {Status: "a=b", HasStatus: true},
		"STATUS=a\nSTATUS=b":                 {Status: "b", HasStatus: true},
		"STATUS=\xff":                        {},
		"EXTEND_TIMEOUT_USEC=5":              {Extend: 5 * time.Microsecond},
		"EXTEND_TIMEOUT_USEC=-5":             {},
		"EXTEND_TIMEOUT_USEC=":               {},
		"EXTEND_TIMEOUT_USEC=99999999999999": {Extend: 99999999999999 * time.Microsecond},
		"EXTEND_TIMEOUT_USEC=9223372036854775807":  {},
		"EXTEND_TIMEOUT_USEC=99999999999999999999": {},
		"MAINPID=1\nFDSTORE=1":                     {},
	}
	for datagram, want := range tests {
		if got, ok := parse([]byte(datagram)); got != want || !ok {
			t.Errorf("parse(%q) = %+v, %v; want %+v", datagram, got, ok, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"READY=1", "STATUS=x\nEXTEND_TIMEOUT_USEC=1", "\x00", "=\n=", "STATUS=\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		m, ok := parse(datagram)
		if !ok && m != (Message{}) || m.Extend < 0 || !m.HasStatus && m.Status != "" || strings.ContainsAny(m.Status, "\n\x00") {
			t.Fatalf("parse(%q) = %+v, %v", datagram, m, ok)
		}
	})
}
