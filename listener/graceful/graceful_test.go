package graceful

import (
	"bufio"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/start-server/start-server/listener/internal/environ"
)

// site is a group of one server under test. Nothing in here lasts as long as an hour, which stands
// for a grace period without an end.
type site struct {
	t       *testing.T
	group   *Group
	addr    string
	signals *signals
	closed  chan struct{} // the listener was closed: it no longer accepts
	ended   chan error    // what Run returned
}

// testLimit is how long a test waits for a server to end.
const testLimit = 30 * time.Second

type watchedListener struct {
	net.Listener
	once   *sync.Once
	closed chan struct{}
}

func (l watchedListener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() { close(l.closed) })
	return err
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// receive waits for a value, for as long as any test waits.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(testLimit):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// send is receive's other end.
func send[T any](t *testing.T, to chan<- T, value T) {
	t.Helper()
	select {
	case to <- value:
	case <-time.After(testLimit):
		t.Fatal("nothing receives")
	}
}

// until returns when the condition holds.
func until(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(testLimit); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to that")
		}
	}
}

// runGroup is Run, for as long as any test waits.
func runGroup(t *testing.T, ctx context.Context, g *Group) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	return receive(t, ended)
}

func init() { http.DefaultClient.Timeout = testLimit }

// setenv sets a variable of start_server, which Run takes out of the environment.
func setenv(t *testing.T, name, value string) {
	t.Setenv(name, value)
	t.Cleanup(environ.Forget)
}

func start(t *testing.T, srv *http.Server, grace time.Duration) *site {
	t.Helper()
	return startGroup(t, &Group{Grace: grace}, srv)
}

func startGroup(t *testing.T, g *Group, srv *http.Server) *site {
	t.Helper()
	s := newSite(t, g)
	l := listen(t)
	s.addr = l.Addr().String()
	watched := watchedListener{l, new(sync.Once), s.closed}
	if srv.TLSConfig != nil {
		g.AddHTTPS(srv, "", "", watched)
	} else {
		g.AddHTTP(srv, watched)
	}
	s.run()
	t.Cleanup(func() { srv.Close() })
	return s
}

func newSite(t *testing.T, g *Group) *site {
	return &site{
		t: t, group: g, closed: make(chan struct{}), ended: make(chan error, 1),
		signals: &signals{term: make(chan os.Signal), interrupt: make(chan os.Signal)},
	}
}

func (s *site) run() {
	go func() { s.ended <- s.group.run(context.Background(), s.signals) }()
}

// term begins the drain and returns when it no longer accepts.
func (s *site) term() {
	send[os.Signal](s.t, s.signals.term, syscall.SIGTERM)
	receive(s.t, s.closed)
}

func (s *site) wantEnd() {
	s.t.Helper()
	select {
	case err := <-s.ended:
		if err != nil {
			s.t.Error(err)
		}
	case <-time.After(testLimit):
		s.t.Fatalf("does not end: waits for %s", s.group.pending())
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
	conn.SetDeadline(time.Now().Add(testLimit))
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

// gate is a handler that reports when it is entered and answers when leave is closed.
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
		receive(t, g.entered)
		s.term()
		close(g.leave)
		c.want(body, true)
		s.wantEnd()
	}
}

// A slow request is waited for longer than the grace period.
func TestRequestUnderWayIsWaitedFor(t *testing.T) {
	g := newGate()
	s := start(t, &http.Server{Handler: g}, -1)
	c := s.connect()
	c.send("/slow")
	receive(t, g.entered)
	s.term()
	time.AfterFunc(3*pollInterval, func() { close(g.leave) })
	c.want("slow", true)
	s.wantEnd()
}

// The answer had already promised that the connection stays open. So it does, for one further
// request.
func TestAnswerBegunBefore(t *testing.T) {
	g := newGate()
	s := start(t, &http.Server{Handler: g}, time.Hour)
	c := s.connect()
	c.send("/begun")
	receive(t, g.entered)
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
	receive(t, fresh)
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

func TestRepeatedTERM(t *testing.T) {
	g := newGate()
	s := start(t, &http.Server{Handler: g}, time.Hour)
	c := s.connect()
	c.send("/slow")
	receive(t, g.entered)
	s.term()
	for range 3 {
		send[os.Signal](t, s.signals.term, syscall.SIGTERM)
	}
	close(g.leave)
	c.want("slow", true)
	s.wantEnd()
}

func TestRepeatedINT(t *testing.T) {
	g := newGate()
	defer close(g.leave)
	s := start(t, &http.Server{Handler: g}, time.Hour)
	c := s.connect()
	c.send("/slow")
	receive(t, g.entered)
	send(t, s.signals.interrupt, os.Interrupt)
	receive(t, s.closed)
	send(t, s.signals.interrupt, os.Interrupt)
	want := "interrupted: closed with 1 connections with a request under way (longest: " + c.conn.LocalAddr().String() + ", for 0s): context canceled"
	if err := receive(t, s.ended); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	c.wantClosed()
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
	receive(t, done)
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
	if err := receive(t, s.ended); err != http.ErrServerClosed {
		t.Error(err)
	}
}

func TestAcceptFails(t *testing.T) {
	g := newGate()
	s := newSite(t, &Group{Grace: time.Hour})
	good := listen(t)
	s.addr = good.Addr().String()
	broken := brokenListener{good, make(chan error, 1)}
	s.group.AddHTTP(&http.Server{Handler: g}, watchedListener{good, new(sync.Once), s.closed}, broken)
	s.run()
	c := s.connect()
	c.send("/slow")
	receive(t, g.entered)
	send(t, broken.failure, errors.New("broken"))
	receive(t, s.closed)
	close(g.leave)
	c.want("slow", true)
	if err := receive(t, s.ended); err == nil || err.Error() != "broken" {
		t.Error(err)
	}
}

type brokenListener struct {
	net.Listener
	failure chan error
}

func (l brokenListener) Accept() (net.Conn, error) { return nil, <-l.failure }
func (l brokenListener) Close() error              { return nil }

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

// Requests that a client has sent at once are all answered, in whatever pieces they come: only the
// answer to the last asks to close the connection. A body does not confuse that.
func TestPipeline(t *testing.T) {
	const get, post = "GET / HTTP/1.1\r\nHost: test\r\n\r\n", "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nx\n\nx\r\n\r\n"
	slow := strings.Replace(get, "/", "/slow", 1)
	for _, before := range [][]string{{}, {post}, {get, get}, {post, get, post}} {
		g := newGate()
		s := start(t, &http.Server{Handler: g}, time.Hour)
		c := s.connect()
		for _, request := range before {
			io.WriteString(c.conn, request)
			c.want("hello", false)
		}
		io.WriteString(c.conn, slow+get+get)
		receive(t, g.entered)
		s.term()
		close(g.leave)
		c.want("slow", false)
		c.want("hello", false)
		c.want("hello", true)
		s.wantEnd()
	}
}

// What has arrived is known without being taken apart.
func TestArrivals(t *testing.T) {
	const head = "GET / HTTP/1.1\r\nHost: test\r\n\r\n"
	for _, c := range []struct {
		read string
		more bool
	}{
		{head, false}, {"\r\n" + head + "\r\n", false}, {head + "G", true}, {head + head, true},
		{"GET / HTTP/1.1\nHost: test\n\n", false}, {"GET / HTTP/1.1\nHost: test\n\nGET ", true},
	} {
		var a arrivals
		for _, b := range []byte(c.read) {
			a.add([]byte{b})
		}
		a.handle(false)
		if a.more() != c.more {
			t.Errorf("%q: more %v", c.read, !c.more)
		}
	}
}

// uncomparable is a connection that cannot be the key of a map.
type uncomparable struct {
	net.Conn
	_ []byte
}

type uncomparableListener struct{ net.Listener }

func (l uncomparableListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return uncomparable{Conn: conn}, err
}

func TestUncomparableConnection(t *testing.T) {
	for _, hijack := range []bool{false, true} {
		l := listen(t)
		s := newSite(t, &Group{Grace: -1})
		s.addr = l.Addr().String()
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !hijack {
				io.WriteString(w, "hello")
				return
			}
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
			conn.Close()
		}), ConnState: func(conn net.Conn, _ http.ConnState) {
			if _, ok := conn.(uncomparable); !ok {
				t.Errorf("the program sees a %T", conn)
			}
		}}
		s.group.AddHTTP(srv, watchedListener{uncomparableListener{l}, new(sync.Once), s.closed})
		s.run()
		c := s.connect()
		c.send("/")
		c.want("hello", false)
		s.term()
		c.wantClosed()
		s.wantEnd()
	}
}

// net/http removes the files of the request that it knows.
func TestMultipartFilesAreRemoved(t *testing.T) {
	s := newHTTPServer(&Group{}, &http.Server{}, nil, false)
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { r.MultipartForm = &multipart.Form{} })
	s.group.closing.Store(true)
	conn := &recorder{}
	s.connections.keep(conn, &connection{closing: true})
	r := httptest.NewRequestWithContext(context.WithValue(t.Context(), connKey{}, conn), "POST", "/", nil)
	s.ServeHTTP(httptest.NewRecorder(), r)
	if r.MultipartForm == nil {
		t.Error("it does not know them")
	}
}

func TestSetupErrors(t *testing.T) {
	if err := new(Group).Run(t.Context()); err == nil {
		t.Error("served nothing")
	}
	l := listen(t)
	var g Group
	g.AddHTTP(&http.Server{}, l)
	g.AddHTTPS(&http.Server{}, "/no/cert.pem", "/no/key.pem", listen(t))
	if err := runGroup(t, t.Context(), &g); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error("the listener is left open")
	}
	setenv(t, "SERVER_STARTER_PORT", "80=x")
	if err := ListenAndServe(&http.Server{}); err == nil || !strings.Contains(err.Error(), `"80=x"`) {
		t.Error(err)
	}
	setenv(t, "SERVER_STARTER_PORT", "") // start_server without --port
	err := ListenAndServe(&http.Server{Addr: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "not passed by start_server, which passed nothing") {
		t.Error(err)
	}
}
