//go:build unix

package graceful

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// pass passes sockets as start_server does, and returns their addresses.
func pass(t *testing.T, count int) []string {
	var addrs, entries []string
	for range count {
		l := listen(t)
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		addrs = append(addrs, l.Addr().String())
		entries = append(entries, fmt.Sprintf("%s=%d", l.Addr(), file.Fd()))
	}
	t.Setenv("SERVER_STARTER_PORT", strings.Join(entries, ";"))
	return addrs
}

// A site, an admin page and a server for what is left.
func TestEachServerItsSocket(t *testing.T) {
	addrs := pass(t, 4)
	for _, c := range []struct {
		addr string
		want []string
	}{{addrs[1], addrs[1:2]}, {addrs[0], addrs[:1]}, {"", addrs[2:]}} {
		listeners, release, err := claimed.listen(c.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		var got []string
		for _, l := range listeners {
			got = append(got, l.Addr().String())
			l.Close()
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("Addr %q: serves %q instead of %q", c.addr, got, c.want)
		}
	}
	for _, addr := range []string{"", addrs[0]} {
		if _, _, err := claimed.listen(addr); err == nil || !strings.Contains(err.Error(), "other servers") {
			t.Errorf("Addr %q again: %v", addr, err)
		}
	}
}

// QUIT by start_server, and a signal that the program names, are taken as TERM.
func TestSignalsAsTERM(t *testing.T) {
	pass(t, 1)
	for _, sent := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGINT} {
		s := notifySignals([]os.Signal{syscall.SIGUSR1, os.Interrupt})
		syscall.Kill(os.Getpid(), sent)
		select {
		case got := <-s.term:
			if got != sent {
				t.Errorf("%v instead of %v", got, sent)
			}
		case <-s.interrupt:
			t.Errorf("%v was taken for a terminal's", sent)
		}
		s.stop()
	}
}

// What a stopped server says of it is no failure, and Run runs once.
func TestRunTwice(t *testing.T) {
	leave := make(chan struct{})
	var g Group
	g.Add(func() error { <-leave; return errors.New("mux: server closed") }, func(context.Context) error { close(leave); return nil })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Error(err)
	}
	if err := g.Run(ctx); err == nil {
		t.Error("ran twice")
	}
}
