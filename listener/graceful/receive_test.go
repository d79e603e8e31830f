package graceful

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// readListener accepts connections that report each Read, and do not begin the first one before
// they are told to.
type readListener struct {
	net.Listener
	begin chan struct{}
	conns chan net.Conn
	reads chan string
}

func newReadListener(l net.Listener) readListener {
	return readListener{l, make(chan struct{}), make(chan net.Conn, 1), make(chan string, 10)}
}

func (l readListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	reads := &readConn{Conn: conn, listener: l}
	if tcp, ok := conn.(*net.TCPConn); ok {
		conn = &readTCPConn{tcp, reads}
	} else {
		conn = reads
	}
	l.conns <- conn
	return conn, nil
}

type readConn struct {
	net.Conn
	listener readListener
}

func (c *readConn) Read(p []byte) (int, error) {
	<-c.listener.begin
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.listener.reads <- string(p[:n])
	}
	if err == io.EOF {
		c.listener.reads <- "end"
	}
	return n, err
}

type readTCPConn struct {
	*net.TCPConn
	reads *readConn
}

func (c *readTCPConn) Read(p []byte) (int, error) { return c.reads.Read(p) }

func (l readListener) want(t *testing.T, want string) {
	t.Helper()
	for got := ""; got != want; {
		got += receive(t, l.reads)
		if len(got) > len(want) {
			t.Fatalf("read %q, want %q", got, want)
		}
	}
}

// A request that has begun to arrive is answered, however long the connection was idle before.
func TestRequestBegunIsAnswered(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(t.TempDir(), "x.sock")
			}
			plain, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			l := newReadListener(plain)
			close(l.begin)
			s := newSite(t, &Group{Grace: time.Hour})
			s.group.AddHTTP(&http.Server{Handler: newGate()}, watchedListener{l, new(sync.Once), s.closed})
			s.run()
			conn, err := net.Dial(network, plain.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(testLimit))
			c := &client{t, conn, bufio.NewReader(conn)}

			one := s.tracked(receive(t, l.conns))
			one.mu.Lock()
			one.since = one.since.Add(-2 * time.Hour)
			one.mu.Unlock()
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: ")
			l.want(t, "GET / HTTP/1.1\r\nHost: ")
			s.term()
			until(t, func() bool {
				one.mu.Lock()
				defer one.mu.Unlock()
				return one.looked || one.closing
			})
			io.WriteString(conn, "test\r\n\r\n")
			c.want("hello", true)
			s.wantEnd()
		})
	}
}

// tracked returns what is known of a connection, once it is.
func (s *site) tracked(conn net.Conn) (one *connection) {
	until(s.t, func() bool {
		s.connections().all.Range(func(key, value any) bool {
			if unwrap(key.(net.Conn)) == conn {
				one = value.(*connection)
			}
			return one == nil
		})
		return one != nil
	})
	return one
}

func (s *site) connections() *connections {
	return &s.group.members[0].server.(*httpServer).connections
}

// A request that has arrived and was not read is answered though its connection is closed, and its
// context is not canceled by that.
func TestRequestInTheQueueIsAnswered(t *testing.T) {
	if !closeReading(readingCloser{}) {
		t.Skip("closing throws away what was received")
	}
	const request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n"
	l := newReadListener(listen(t))
	s := newSite(t, &Group{Grace: -1})
	s.addr = l.Addr().String()
	s.group.AddHTTP(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.want(t, request+"end") // net/http takes the end for a client that hangs up
		fmt.Fprint(w, r.Context().Err())
	})}, watchedListener{l, new(sync.Once), s.closed})
	s.run()
	c := s.connect()
	one := s.tracked(receive(t, l.conns))
	io.WriteString(c.conn, request)
	s.term()
	until(t, func() bool {
		one.mu.Lock()
		defer one.mu.Unlock()
		return one.closing
	})
	close(l.begin)
	c.want("<nil>", true)
	s.wantEnd()
}

type readingCloser struct{ net.Conn }

func (readingCloser) CloseRead() error { return nil }
