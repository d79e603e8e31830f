//go:build unix

package graceful

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
	setenv(t, "SERVER_STARTER_PORT", strings.Join(entries, ";"))
	return addrs
}

// A site, an admin page and a server for what is left.
func TestEachServerItsSocket(t *testing.T) {
	addrs := pass(t, 5)
	for _, c := range []struct {
		addrs []string
		want  [][]string
	}{
		{addrs[1:2], [][]string{addrs[1:2]}},
		{[]string{"", addrs[4], addrs[0]}, [][]string{addrs[2:4], addrs[4:], addrs[:1]}},
	} {
		listeners, release, err := claimed.listen(c.addrs...)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		for i, want := range c.want {
			var got []string
			for _, l := range listeners[i] {
				got = append(got, l.Addr().String())
				l.Close()
			}
			if !slices.Equal(got, want) {
				t.Errorf("Addr %q: serves %q instead of %q", c.addrs[i], got, want)
			}
		}
	}
	for _, addr := range []string{"", addrs[0]} {
		if _, _, err := claimed.listen(addr); err == nil || !strings.Contains(err.Error(), "other servers") {
			t.Errorf("Addr %q again: %v", addr, err)
		}
	}
}

// In a group the order does not matter, and a server for which nothing is left fails it.
func TestGroupClaims(t *testing.T) {
	addrs := pass(t, 2)
	name := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) })
	}
	site := &http.Server{Addr: ":1", Handler: name("early")}
	g := Group{BeforeReady: func(context.Context) error {
		for i, want := range []string{"admin", "site"} {
			if _, got := fetch(http.DefaultClient, "http://"+addrs[i]); got != want {
				t.Errorf("%s on the socket of %s", got, want)
			}
		}
		http.DefaultClient.CloseIdleConnections()
		return errors.New("enough")
	}}
	g.AddHTTP(site)
	g.AddHTTP(&http.Server{Addr: addrs[0], Handler: name("admin")})
	site.Handler = name("site") // the fields are read by Run
	if err := runGroup(t, t.Context(), &g); err == nil || !strings.HasSuffix(err.Error(), "enough") {
		t.Error(err)
	}
	if value, set := os.LookupEnv("SERVER_STARTER_PORT"); set {
		t.Errorf("processes that the server starts inherit SERVER_STARTER_PORT=%q", value)
	}

	var third Group
	third.AddHTTP(&http.Server{Addr: addrs[0]})
	third.AddHTTP(&http.Server{Addr: addrs[1]})
	third.AddHTTP(&http.Server{Addr: ":1"})
	if err := runGroup(t, t.Context(), &third); err == nil || !strings.Contains(err.Error(), `Addr ":1"`) {
		t.Error(err)
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

// A signal that start_server may have sent to stop the server, and that does not, is logged.
func TestIgnoredSignalsAreLogged(t *testing.T) {
	pass(t, 1)
	logged := make(lines, 10)
	s := newSite(t, &Group{Logf: logged.logf})
	s.signals = notifySignals(nil)
	defer s.signals.stop()
	s.group.AddHTTP(&http.Server{}, listen(t))
	s.run()
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGINT} {
		syscall.Kill(os.Getpid(), sig)
		logged.want(t, sig.String(), "Group.Signals")
	}
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	s.wantEnd()
}

// What a stopped server says of it is no failure, and Run runs once.
func TestRunTwice(t *testing.T) {
	leave := make(chan struct{})
	var g Group
	g.Add(func() error { <-leave; return errors.New("mux: server closed") }, func(context.Context) error { close(leave); return nil })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := runGroup(t, ctx, &g); err != nil {
		t.Error(err)
	}
	if err := runGroup(t, ctx, &g); err == nil {
		t.Error("ran twice")
	}
}
