package graceful

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/start-server/start-server/listener"
)

// lines collects what a group logs.
type lines chan string

func (l lines) logf(format string, args ...any) { l <- fmt.Sprintf(format, args...) }

// want returns when a line has all of the words.
func (l lines) want(t *testing.T, words ...string) {
	t.Helper()
	line := receive(t, l)
	for _, word := range words {
		if !strings.Contains(line, word) {
			t.Errorf("%q is not in %q", word, line)
		}
	}
}

func TestHijackedConnectionIsWaitedFor(t *testing.T) {
	hijacked := make(chan net.Conn, 1)
	g := &Group{Grace: time.Hour, Logf: make(lines, 10).logf}
	logged := make(lines, 10)
	g.Logf = logged.logf
	s := startGroup(t, g, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
		}
		if _, ok := conn.(interface{ CloseWrite() error }); !ok {
			t.Errorf("%T has lost its methods", conn)
		}
		hijacked <- conn
	})})
	c := s.connect()
	c.send("/")
	conn := receive(t, hijacked)
	s.term()
	logged.want(t, "draining", "1 hijacked connections")
	time.Sleep(3 * pollInterval)
	select {
	case err := <-s.ended:
		t.Fatal("ended early:", err)
	default:
	}
	io.WriteString(conn, "still here")
	conn.Close()
	conn.Close()
	if got, err := io.ReadAll(c.r); string(got) != "still here" {
		t.Errorf("%q, %v", got, err)
	}
	s.wantEnd()
}

// A handler that drops the connection without closing it does not hold the drain.
func TestForgottenHijackedConnection(t *testing.T) {
	s := start(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := w.(http.Hijacker).Hijack(); err != nil {
			t.Error(err)
		}
	})}, time.Hour)
	c := s.connect()
	c.send("/")
	c.wantClosedBy(runtime.GC)
	s.term()
	s.wantEnd()
}

// wantClosedBy calls f until the connection is closed.
func (c *client) wantClosedBy(f func()) {
	c.t.Helper()
	for range 1000 {
		f()
		c.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := c.r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
	c.t.Fatal("the connection is still open")
}

// Whatever a server listens on, a handler that hijacks gets the methods of its connection.
func TestHijackedTypes(t *testing.T) {
	for _, conn := range []net.Conn{&net.TCPConn{}, &net.UnixConn{}, &tls.Conn{}, &recorder{}} {
		watched := watchClose(conn, new(connections))
		if _, ok := conn.(interface{ CloseWrite() error }); ok {
			if _, ok := watched.(interface{ CloseWrite() error }); !ok {
				t.Errorf("%T hides CloseWrite", watched)
			}
		}
	}
}

// A hijacked connection is closed like any other when the time is over, whatever its handler does.
func TestHijackedConnectionIsClosedInTheEnd(t *testing.T) {
	leave := make(chan struct{})
	defer close(leave)
	s := startGroup(t, &Group{DrainTimeout: 10 * pollInterval}, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
		}
		io.WriteString(conn, "x")
		<-leave
		conn.Close()
	})})
	c := s.connect()
	c.send("/")
	c.r.ReadByte()
	s.term()
	if err := receive(t, s.ended); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "closed with 1 hijacked connections") {
		t.Error(err)
	}
	c.wantClosed()
}

// A function that ends what has no end is begun while that is under way: at once until Go 1.26, and
// when nothing else is left since. It is waited for until Go 1.26.
func TestShutdownFunctions(t *testing.T) {
	g := newGate()
	var calls atomic.Int32
	srv := &http.Server{Handler: g}
	srv.RegisterOnShutdown(func() {
		calls.Add(1)
		close(g.leave)
	})
	s := start(t, srv, time.Hour)
	idle := s.connect()
	idle.send("/")
	idle.want("hello", false)
	c := s.connect()
	c.send("/slow")
	receive(t, g.entered)
	s.term()
	idle.send("/") // Shutdown would have closed it
	idle.want("hello", true)
	c.want("slow", true)
	s.wantEnd()
	if n := calls.Load(); n != 1 {
		t.Errorf("called %d times", n)
	}
}

// A hijacked connection may need the function to end.
func TestShutdownFunctionOfHijacked(t *testing.T) {
	hijacked := make(chan net.Conn, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
		}
		hijacked <- conn
	})}
	conn := make(chan net.Conn, 1)
	srv.RegisterOnShutdown(func() {
		c := <-conn
		io.WriteString(c, "bye")
		c.Close()
	})
	s := start(t, srv, time.Hour)
	c := s.connect()
	c.send("/")
	conn <- receive(t, hijacked)
	s.term()
	if got, err := io.ReadAll(c.r); string(got) != "bye" {
		t.Errorf("%q, %v", got, err)
	}
	s.wantEnd()
}

// The grace period counts from the last answer of each connection, not from TERM.
func TestGraceCountsFromTheLastAnswer(t *testing.T) {
	const grace = 500 * time.Millisecond
	s := start(t, &http.Server{Handler: newGate()}, grace)
	c := s.connect()
	c.send("/")
	c.want("hello", false)
	answered := time.Now()
	time.Sleep(grace) // what is measured
	s.term()
	c.wantClosed()
	s.wantEnd()
	if _, ok := lastReceived(c.conn); !ok {
		t.Skip("it is not known when a connection has received something")
	}
	if took := time.Since(answered); took > 2*grace-pollInterval {
		t.Errorf("an idle connection was kept for %v", took)
	}
}

func TestContextStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var g Group
	l := listen(t)
	g.AddHTTP(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-Draining(r.Context()) // closed at once
		io.WriteString(w, "bye")
	})}, l)
	answer := make(chan string)
	go func() { answer <- get(l.Addr()) }()
	if err := runGroup(t, ctx, &g); err != nil {
		t.Error(err)
	}
	if got := receive(t, answer); got != "bye" {
		t.Error(got)
	}
}

func get(addr net.Addr) string {
	_, body := fetch(http.DefaultClient, "http://"+addr.String())
	return body
}

// fetch returns the protocol and the body of the answer, or the error as the body.
func fetch(client *http.Client, url string) (proto, body string) {
	response, err := client.Get(url)
	if err != nil {
		return "", err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err.Error()
	}
	return response.Proto, string(text)
}

func TestDrainingElsewhere(t *testing.T) {
	if Draining(t.Context()) != nil {
		t.Error("a channel for a context without a server")
	}
}

// All servers serve before the hook is called, and all end before Run returns.
func TestSeveralServers(t *testing.T) {
	one, two, plain := listen(t), listen(t), listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	var g Group
	g.AddHTTP(&http.Server{Handler: handler}, one)
	g.AddHTTP(&http.Server{Handler: handler}, two)
	var stopped atomic.Bool
	g.AddListener(plain, func(l net.Listener) error {
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			io.WriteString(conn, "plain")
			conn.Close()
		}
	}, nil)
	quit := make(chan struct{})
	g.Add(func() error { <-quit; return nil }, func(context.Context) error {
		time.AfterFunc(pollInterval, func() { stopped.Store(true); close(quit) })
		return nil
	})
	g.BeforeReady = func(context.Context) error {
		for _, l := range []net.Listener{one, two} {
			if got := get(l.Addr()); got != "hello" {
				t.Error(got)
			}
		}
		if got := read(t, plain.Addr()); got != "plain" {
			t.Error(got)
		}
		http.DefaultClient.CloseIdleConnections()
		cancel()
		return nil
	}
	if err := runGroup(t, ctx, &g); err != nil {
		t.Error(err)
	}
	if !stopped.Load() {
		t.Error("a server was not waited for")
	}
	select {
	case <-g.Draining():
	default:
		t.Error("the channel is not closed")
	}
}

// read returns what a server sends without being asked.
func read(t *testing.T, addr net.Addr) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testLimit))
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return string(all)
}

func TestBeforeReadyFails(t *testing.T) {
	g := Group{BeforeReady: func(context.Context) error { return errors.New("no database") }}
	g.AddHTTP(&http.Server{}, listen(t))
	if err := runGroup(t, t.Context(), &g); err == nil || err.Error() != "before ready: no database" {
		t.Error(err)
	}
}

// The first server that fails stops the others, and its error is returned.
func TestServerFails(t *testing.T) {
	var g Group
	l := listen(t)
	g.AddHTTP(&http.Server{}, l)
	g.Add(func() error { return errors.New("broken") }, func(context.Context) error { return errors.New("cannot stop") })
	if err := runGroup(t, t.Context(), &g); err == nil || err.Error() != "broken\ncannot stop" {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error("the listener is left open")
	}
}

// However early the group is stopped, serve has begun before stop is called.
func TestStopAfterServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var serving, stopped atomic.Bool
		quit := make(chan struct{})
		s := newFuncServer(nil, func() error {
			time.Sleep(entering / 2)
			serving.Store(true)
			<-quit
			return nil
		}, func(context.Context) error {
			stopped.Store(true)
			if !serving.Load() {
				t.Error("stopped before it serves")
			}
			close(quit)
			return nil
		})
		drained := make(chan error)
		go func() { drained <- s.drain(t.Context()) }()
		synctest.Wait()
		if stopped.Load() {
			t.Error("stopped before serve was called")
		}
		go s.serve()
		if err := <-drained; err != nil || !stopped.Load() {
			t.Error(err, stopped.Load())
		}
	})
}

// Errors of servers that fail while others are still serving, during the delay, are returned too, but
// none twice, and not those that say that a server was closed.
func TestServersFailDuringTheDelay(t *testing.T) {
	addr := listen(t)
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, &Group{DrainDelay: time.Hour})
		failed := make(chan struct{})
		for _, err := range []error{errors.New("one"), net.ErrClosed} {
			s.group.Add(func() error { <-failed; return err }, nil)
		}
		s.group.Add(func() error { return errors.New("first") }, nil)
		l := brokenListener{addr, make(chan error, 1)}
		s.group.AddHTTP(&http.Server{}, l)
		s.run()
		<-s.group.Draining()
		close(failed)
		l.failure <- errors.New("two")
		if err := <-s.ended; err == nil || err.Error() != "first\none\ntwo" {
			t.Error(err)
		}
	})
}

// A listener is closed, and Accept has failed, before stop is called.
func TestListenerFirst(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var g Group
	var failed atomic.Bool
	g.AddListener(listen(t), func(l net.Listener) error {
		cancel()
		_, err := l.Accept()
		failed.Store(true)
		return err
	}, func(context.Context) error {
		return nil
	})
	if err := runGroup(t, ctx, &g); err != nil || !failed.Load() {
		t.Error(err, failed.Load())
	}
}

func TestDrainTimeout(t *testing.T) {
	gate := newGate()
	defer close(gate.leave)
	logged := make(lines, 10)
	s := startGroup(t, &Group{DrainTimeout: 10 * pollInterval, Logf: logged.logf}, &http.Server{Handler: gate})
	c := s.connect()
	c.send("/slow")
	receive(t, gate.entered)
	s.term()
	logged.want(t, "draining, waiting for 1 connections with a request under way (longest: "+c.conn.LocalAddr().String())
	err := receive(t, s.ended)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 connections with a request under way") {
		t.Error(err)
	}
	c.wantClosed()
}

// During the delay the server accepts as ever, and its health check can say that it is about to go.
func TestDrainDelay(t *testing.T) {
	g := &Group{DrainDelay: time.Hour}
	s := startGroup(t, g, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-Draining(r.Context()):
			io.WriteString(w, "draining")
		default:
			io.WriteString(w, "healthy")
		}
	})})
	c := s.connect()
	c.send("/")
	c.want("healthy", false)
	send(t, s.signals.term, nil)
	receive(t, g.Draining())
	fresh := s.connect()
	fresh.send("/")
	fresh.want("draining", false)
	send(t, s.signals.interrupt, nil)
	send(t, s.signals.interrupt, nil)
	if err := receive(t, s.ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A manager that does not listen, or cannot be reached, is no reason to stop.
func TestReadyFails(t *testing.T) {
	setenv(t, "NOTIFY_SOCKET", strings.Repeat("x", 1000))
	logged := make(lines, 10)
	s := startGroup(t, &Group{Logf: logged.logf}, &http.Server{Handler: newGate()})
	logged.want(t, "READY=1 to $NOTIFY_SOCKET")
	c := s.connect()
	c.send("/")
	c.want("hello", false)
	send(t, s.signals.term, nil)
	c.conn.Close()
	s.wantEnd()
}

// As with net/http alone, a body that is larger than it may be ends the connection.
func TestMaxBytesReader(t *testing.T) {
	s := start(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 10))
		io.WriteString(w, fmt.Sprint(err))
	})}, time.Hour)
	c := s.connect()
	io.WriteString(c.conn, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 20\r\n\r\n"+strings.Repeat("x", 20))
	c.want("http: request body too large", true)
	c = s.connect()
	io.WriteString(c.conn, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n"+strings.Repeat("x", 10))
	c.want("<nil>", false)
	s.term()
	io.WriteString(c.conn, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n"+strings.Repeat("x", 10))
	c.want("<nil>", true)
	s.wantEnd()
}

// A listener that was made blocking does not hold the stop for good.
func TestStuckAccept(t *testing.T) {
	s := newSite(t, &Group{})
	leave := make(chan error)
	defer func() { leave <- net.ErrClosed }()
	stuck := brokenListener{listen(t), leave}
	s.group.AddHTTP(&http.Server{}, stuck)
	s.run()
	receive(t, s.group.members[0].serving())
	send(t, s.signals.term, nil)
	s.wantEnd()
}

func TestForgottenPort(t *testing.T) {
	setenv(t, listener.ServerStarterEnvVarName, "")
	var g Group
	g.AddHTTP(&http.Server{Addr: "127.0.0.1:0"})
	if err := runGroup(t, t.Context(), &g); err == nil || !strings.Contains(err.Error(), "passed nothing") {
		t.Error(err)
	}
}
