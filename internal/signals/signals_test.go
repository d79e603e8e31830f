package signals

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"
)

// The tests of this package are not parallel: signals are received by the process as a whole.

func raise(t *testing.T, sigs ...syscall.Signal) {
	t.Helper()
	for _, sig := range sigs {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
}

func take(t *testing.T, from chan os.Signal, want syscall.Signal) {
	t.Helper()
	select {
	case got := <-from:
		if got != want {
			t.Errorf("received %v, want %v", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%v was not received", want)
	}
}

func catchAll() Channels {
	c := Catch()
	CatchRest()
	return c
}

func TestCatch(t *testing.T) {
	c := catchAll()
	if again := Catch(); again != c {
		t.Error("a second Catch returns other channels")
	}
	for sig, channel := range map[syscall.Signal]chan os.Signal{
		syscall.SIGHUP: c.HUP, syscall.SIGTERM: c.Stop, syscall.SIGINT: c.Stop, syscall.SIGQUIT: c.Stop,
		syscall.SIGUSR2: c.Upgrade, syscall.SIGCHLD: c.Child,
		syscall.SIGUSR1: c.Stray, syscall.SIGALRM: c.Stray, syscall.SIGVTALRM: c.Stray, syscall.SIGABRT: c.Stray,
		syscall.SIGTRAP: c.Stray, syscall.SIGSYS: c.Stray, syscall.SIGXCPU: c.Stray, syscall.SIGXFSZ: c.Stray, syscall.SIGIO: c.Stray,
	} {
		raise(t, sig)
		take(t, channel, sig)
	}
	raise(t, syscall.SIGPIPE) // would end a process that does not ignore it
	if waiting := c.Drain(); len(waiting) > 0 {
		t.Errorf("%v received as well", waiting)
	}
}

// TestManySignals checks that a signal is not lost among many of another kind, and that many of one
// kind count as one.
func TestManySignals(t *testing.T) {
	c := catchAll()
	for range 1000 {
		raise(t, syscall.SIGHUP, syscall.SIGUSR1)
	}
	raise(t, syscall.SIGTERM)
	take(t, c.Stop, syscall.SIGTERM)
	take(t, c.HUP, syscall.SIGHUP)
	settle()
	c.Drain()
}

// TestRelease checks that other channels receive the signals before and after Release, and that it
// drops pending signals.
func TestRelease(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("HUP is ignored, as under nohup(1)")
	}
	own := make(chan os.Signal, 10)
	signal.Notify(own, syscall.SIGHUP)
	defer signal.Stop(own)
	for range 3 {
		c := Catch()
		raise(t, syscall.SIGHUP)
		take(t, own, syscall.SIGHUP)
		take(t, c.HUP, syscall.SIGHUP)
		Release()
		Release() // does nothing
		if signal.Ignored(syscall.SIGPIPE) {
			t.Error("PIPE is ignored")
		}
		raise(t, syscall.SIGHUP)
		take(t, own, syscall.SIGHUP)
		if waiting := c.Drain(); len(waiting) > 0 {
			t.Errorf("%v was caught after Release", waiting)
		}
	}
}

// TestReleaseIgnored checks that a signal that was ignored before Catch is ignored after Release.
func TestReleaseIgnored(t *testing.T) {
	signal.Ignore(syscall.SIGUSR1, syscall.SIGTERM)
	defer signal.Reset(syscall.SIGUSR1, syscall.SIGTERM)
	c := catchAll()
	raise(t, syscall.SIGTERM)
	take(t, c.Stop, syscall.SIGTERM)
	Release()
	for _, sig := range []os.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
		if !signal.Ignored(sig) {
			t.Errorf("%v is not ignored any more", sig)
		}
	}
	raise(t, syscall.SIGUSR1, syscall.SIGTERM) // would end the process
}

func TestDrain(t *testing.T) {
	c := catchAll()
	raise(t, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
	want := []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM}
	var got []syscall.Signal
	for end := time.Now().Add(20 * time.Second); len(got) < len(want) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		settle()
		got = append(got, c.Drain()...)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("drained %v, want %v", got, want)
	}
}

// TestIgnoreAll checks that signals received before are kept, that those received meanwhile are
// ignored, and that later ones are caught again.
func TestIgnoreAll(t *testing.T) {
	c := catchAll()
	for range 20 {
		raise(t, syscall.SIGTERM)
		for end := time.Now().Add(20 * time.Second); len(c.Stop) == 0 && time.Now().Before(end); {
			settle() // one that the kernel has not delivered yet is lost in IgnoreAll
		}
		restore := IgnoreAll()
		raise(t, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGUSR2, syscall.SIGUSR1, syscall.SIGQUIT)
		restore()
		settle()
		if waiting := c.Drain(); !slices.Equal(waiting, []syscall.Signal{syscall.SIGTERM}) {
			t.Fatalf("received %v, want the earlier TERM", waiting)
		}
		raise(t, syscall.SIGHUP)
		take(t, c.HUP, syscall.SIGHUP)
	}
}
