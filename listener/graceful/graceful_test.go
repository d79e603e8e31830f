package graceful

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// site is a server under test. Nothing in here lasts as long as an hour, which stands for a grace period without an end.
type site struct {
	t      *testing.T
	srv    *http.Server
	addr   string
	stop   chan os.Signal
	closed chan struct{} // the listener was closed: the stop has begun
	ended  chan error    // what run returned
}

type watchedListener struct {
	net.Listener
	closed chan struct{}
}

func (l watchedListener) Close() error {
	err := l.Listener.Close()
	if err == nil {
		close(l.closed)
	}
	return err
}

func start(t *testing.T, srv *http.Server, grace time.Duration) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t, srv, l.Addr().String(), make(chan os.Signal, 2), make(chan struct{}), make(chan error, 1)}
	accept := srv.Serve
	if srv.TLSConfig != nil {
		accept = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	d := newDrain(srv, []net.Listener{watchedListener{l, s.closed}})
	go func() { s.ended <- d.run(accept, s.stop, grace) }()
	t.Cleanup(func() { srv.Close() })
	return s
}

// term begins the stop and returns when it has begun.
func (s *site) term() {
	s.stop <- syscall.SIGTERM
	<-s.closed
}

func (s *site) wantEnd() {
	s.t.Helper()
	if err := <-s.ended; err != nil {
		s.t.Error(err)
	}
}

// client is a connection of which every byte is under our control.
type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func (s *site) connect() *client {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return &client{s.t, conn, bufio.NewReader(conn)}
}

func (c *client) send(path string) {
	io.WriteString(c.conn, "GET "+path+" HTTP/1.1\r\nHost: test\r\n\r\n")
}

// want reads an answer and checks whether it is the last of the connection, said and done.
func (c *client) want(body string, last bool) {
	c.t.Helper()
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	got, err := io.ReadAll(response.Body)
	if err != nil || string(got) != body || response.Close != last {
		c.t.Fatalf("got %q, %v, last %v; want %q, last %v", got, err, response.Close, body, last)
	}
	if last {
		c.wantClosed()
	}
}

func (c *client) wantClosed() {
	c.t.Helper()
	if _, err := c.r.ReadByte(); err != io.EOF {
		c.t.Errorf("the connection is not closed: %v", err)
	}
}

// gate is a handler that tells when it is entered and answers when it is let.
type gate struct{ entered, leave chan struct{} }

func newGate() gate { return gate{make(chan struct{}, 1), make(chan struct{})} }

func (g gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/begun": // a part of the answer is sent before
		io.WriteString(w, "be")
		w.(http.Flusher).Flush()
		g.wait()
		io.WriteString(w, "gun")
	case "/slow":
		g.wait()
		io.WriteString(w, "slow")
	case "/empty":
		g.wait()
	default:
		io.WriteString(w, "hello")
	}
}

func (g gate) wait() {
	g.entered <- struct{}{}
	<-g.leave
}

func TestRequestUnderWayIsAnswered(t *testing.T) {
	for path, body := range map[string]string{"/slow": "slow", "/empty": ""} {
		g := newGate()
		s := start(t, &http.Server{Handler: g}, time.Hour)
		c := s.connect()
		c.send(path)
		<-g.entered
		s.term()
		close(g.leave)
		c.want(body, true)
		s.wantEnd()
	}
}

// A slow request is waited for longer than the grace period.
func TestRequestUnderWayIsWaitedFor(t *testing.T) {
	g := newGate()
	srv := &http.Server{Handler: g}
	shutdown := make(chan struct{})
	srv.RegisterOnShutdown(func() { close(shutdown) })
	s := start(t, srv, 0)
	c := s.connect()
	c.send("/slow")
	<-g.entered
	s.term()
	<-shutdown
	close(g.leave)
	c.want("slow", true)
	s.wantEnd()
}

// The client was told before that the connection would stay. So it does, for one further request.
func TestAnswerBegunBefore(t *testing.T) {
	g := newGate()
	s := start(t, &http.Server{Handler: g}, time.Hour)
	c := s.connect()
	c.send("/begun")
	<-g.entered
	s.term()
	close(g.leave)
	c.want("begun", false)
	c.send("/")
	c.want("hello", true)
	s.wantEnd()
}

// http.Server.Shutdown closes this one unanswered.
func TestFreshConnectionIsAnswered(t *testing.T) {
	fresh := make(chan struct{})
	srv := &http.Server{Handler: newGate(), ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			close(fresh)
		}
	}}
	s := start(t, srv, time.Hour)
	c := s.connect()
	<-fresh
	s.term()
	c.send("/")
	c.want("hello", true)
	s.wantEnd()
}

func TestIdleConnectionIsAnswered(t *testing.T) {
	s := start(t, &http.Server{Handler: newGate()}, time.Hour)
	c := s.connect()
	c.send("/")
	c.want("hello", false)
	s.term()
	c.send("/")
	c.want("hello", true)
	s.wantEnd()
}

func TestIdleConnectionIsClosedInTheEnd(t *testing.T) {
	s := start(t, &http.Server{Handler: newGate()}, 10*time.Millisecond)
	c := s.connect()
	c.send("/")
	c.want("hello", false)
	s.term()
	c.wantClosed()
	s.wantEnd()
}

func TestSecondSignal(t *testing.T) {
	g := newGate()
	defer close(g.leave)
	s := start(t, &http.Server{Handler: g}, time.Hour)
	c := s.connect()
	c.send("/slow")
	<-g.entered
	s.term()
	s.stop <- syscall.SIGTERM
	want := "terminated came again: connections were closed before they were answered"
	if err := <-s.ended; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	c.wantClosed()
}

func TestHijackedConnectionIsTheHandlers(t *testing.T) {
	hijacked := make(chan net.Conn, 1)
	s := start(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
		}
		hijacked <- conn
	})}, time.Hour)
	c := s.connect()
	c.send("/")
	conn := <-hijacked
	s.term()
	s.wantEnd()
	io.WriteString(conn, "still here")
	conn.Close()
	if got, err := io.ReadAll(c.r); string(got) != "still here" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestHooksOfTheUser(t *testing.T) {
	type key struct{}
	var closed, shutdown atomic.Int32
	srv := &http.Server{
		BaseContext: func(net.Listener) context.Context { return context.WithValue(context.Background(), key{}, "base") },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				closed.Add(1)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Context().Value(key{}).(string))
		}),
	}
	done := make(chan struct{})
	srv.RegisterOnShutdown(func() { shutdown.Add(1); close(done) })
	s := start(t, srv, time.Hour)
	c := s.connect()
	c.send("/")
	c.want("base", false)
	s.term()
	c.send("/")
	c.want("base", true)
	s.wantEnd()
	<-done
	if closed.Load() != 1 || shutdown.Load() != 1 {
		t.Errorf("closed %d, shutdown %d", closed.Load(), shutdown.Load())
	}
}

func TestDefaultServeMux(t *testing.T) {
	s := start(t, &http.Server{}, time.Hour)
	c := s.connect()
	c.send("/no-such-page")
	c.want("404 page not found\n", false)
	c.conn.Close()
	s.term()
	s.wantEnd()
}

// Shutdown by the program itself is its own affair.
func TestShutdownByTheUser(t *testing.T) {
	srv := &http.Server{}
	s := start(t, srv, time.Hour)
	s.connect()
	srv.Close()
	if err := <-s.ended; err != http.ErrServerClosed {
		t.Error(err)
	}
}

func TestAcceptFails(t *testing.T) {
	g := newGate()
	srv := &http.Server{Handler: g}
	good, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := brokenListener{good, make(chan error, 1)}
	s := &site{t: t, addr: good.Addr().String(), closed: make(chan struct{}), ended: make(chan error, 1)}
	d := newDrain(srv, []net.Listener{watchedListener{good, s.closed}, broken})
	go func() { s.ended <- d.run(srv.Serve, nil, time.Hour) }()
	c := s.connect()
	c.send("/slow")
	<-g.entered
	broken.failure <- errors.New("broken")
	<-s.closed
	close(g.leave)
	c.want("slow", true)
	if err := <-s.ended; err == nil || err.Error() != "broken" {
		t.Error(err)
	}
}

type brokenListener struct {
	net.Listener
	failure chan error
}

func (l brokenListener) Accept() (net.Conn, error) { return nil, <-l.failure }
func (l brokenListener) Close() error              { return nil }

// Over HTTP/2 the connection ends by GOAWAY, on the next answer or, for an idle one, when the grace period is over.
func TestHTTP2(t *testing.T) {
	t.Run("busy", func(t *testing.T) { testHTTP2(t, time.Hour, true) })
	t.Run("idle", func(t *testing.T) { testHTTP2(t, 10*time.Millisecond, false) })
}

func testHTTP2(t *testing.T, grace time.Duration, again bool) {
	t.Parallel() // net/http leaves a second between the GOAWAY and the end of the connection
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	srv := &http.Server{Handler: newGate(), TLSConfig: &tls.Config{Certificates: certificate.TLS.Certificates}}
	s := start(t, srv, grace)
	transport := certificate.Client().Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = true
	get := func() {
		t.Helper()
		response, err := (&http.Client{Transport: transport}).Get("https://" + s.addr)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if response.Body.Close(); err != nil || string(body) != "hello" || response.ProtoMajor != 2 {
			t.Errorf("%q, %v, %s", body, err, response.Proto)
		}
	}
	get()
	s.term()
	if again {
		get()
	}
	s.wantEnd()
}

// Handlers find on the writer all that net/http offers.
func TestWriter(t *testing.T) {
	s := start(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		controller := http.NewResponseController(w)
		if err := errors.Join(controller.SetReadDeadline(time.Time{}), controller.EnableFullDuplex()); err != nil {
			t.Error(err)
		}
		switch r.URL.Path {
		case "/header":
			w.WriteHeader(http.StatusOK)
			io.WriteString(w, "word")
		case "/write":
			w.Write([]byte("word"))
		case "/string":
			w.(io.StringWriter).WriteString("word")
		case "/read":
			w.(io.ReaderFrom).ReadFrom(strings.NewReader("word"))
		case "/flush":
			w.(http.Flusher).Flush()
			io.WriteString(w, "word")
		case "/controller":
			if err := controller.Flush(); err != nil {
				t.Error(err)
			}
			io.WriteString(w, "word")
		}
	})}, time.Hour)
	var clients []*client
	paths := []string{"/header", "/write", "/string", "/read", "/flush", "/controller"}
	for _, path := range paths {
		c := s.connect()
		c.send(path)
		c.wantHint()
		c.want("word", false)
		clients = append(clients, c)
	}
	s.term()
	for i, c := range clients {
		c.send(paths[i])
		c.wantHint()
		c.want("word", true)
	}
	s.wantEnd()
}

// wantHint reads a 103 without Connection: close.
func (c *client) wantHint() {
	c.t.Helper()
	response, err := http.ReadResponse(c.r, nil)
	if err != nil || response.StatusCode != http.StatusEarlyHints || response.Close {
		c.t.Fatal(response, err)
	}
}

func TestSetupErrors(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/no/such/socket")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(&http.Server{}, l); err == nil || !strings.Contains(err.Error(), "NOTIFY_SOCKET") {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error("the listener is left open")
	}
	if err := Serve(&http.Server{}); err == nil {
		t.Error("served nowhere")
	}
	if err := ListenAndServeTLS(&http.Server{}, "/no/cert.pem", "/no/key.pem"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	t.Setenv("SERVER_STARTER_PORT", "80=x")
	if err := ListenAndServe(&http.Server{}); err == nil || !strings.Contains(err.Error(), `"80=x"`) {
		t.Error(err)
	}
}
