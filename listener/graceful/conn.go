package graceful

import (
	"io"
	"net"
	"sync"
)

// followedConn is what the acceptor returns in place of a connection, to know what has arrived on
// it. It becomes an http2Conn when HTTP/2 begins on it.
type followedConn struct {
	*http2Conn
	self        net.Conn // what net/http knows of it
	connections *connections
	arrivals    arrivals
	expected    string // what is left of the preface, empty if it is not expected
	speaks      bool   // HTTP/2 has begun; set before its first frame is written
}

// follow follows a connection on which HTTP/2 may begin with the preface.
func (s *httpServer) follow(conn net.Conn) net.Conn {
	c := &followedPlainConn{&followedConn{http2Conn: &http2Conn{Conn: conn}, connections: &s.connections}}
	c.self = c
	if protocols := s.srv.Protocols; protocols != nil && protocols.UnencryptedHTTP2() {
		c.expected = preface
	}
	return c
}

func (c *followedConn) begin() {
	c.speaks = true
	if one := c.connections.find(c.self); one != nil {
		one.mu.Lock()
		one.http2 = c.http2Conn
		one.mu.Unlock()
	}
}

func (c *followedConn) Read(p []byte) (int, error) {
	if len(p) > 1 { // not to learn whether the client hangs up
		c.arrivals.await()
	}
	n, err := c.Conn.Read(p)
	if k := min(n, len(c.expected)); k > 0 {
		if string(p[:k]) != c.expected[:k] {
			c.expected = ""
		} else if c.expected = c.expected[k:]; c.expected == "" {
			c.begin()
		}
	}
	if !c.speaks {
		c.arrivals.add(p[:n])
	}
	return n, err
}

func (c *followedConn) Write(p []byte) (int, error) {
	if c.speaks {
		return c.http2Conn.Write(p)
	}
	return c.Conn.Write(p)
}

// CloseWrite is what net/http calls before it closes a connection whose request it has not read.
func (c *followedConn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return nil
}

type followedPlainConn struct{ *followedConn }

// ReadFrom lets net/http send a file with sendfile.
func (c *followedPlainConn) ReadFrom(r io.Reader) (int64, error) {
	if conn, ok := c.Conn.(io.ReaderFrom); ok && !c.speaks {
		return conn.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c}, r)
}

// arrivals knows whether further requests were read together with one of HTTP/1 (pipelining), by
// the empty lines that end their heads. It knows nothing of what follows a body until the next
// request is waited for.
type arrivals struct {
	mu      sync.Mutex
	heads   int  // that have ended, and whose requests have not come to the handler
	begun   bool // a further one has
	text    bool // in the line that has begun
	body    bool // what comes may be of a body
	between bool // net/http waits for a request
}

func (a *arrivals) add(p []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.body {
		return
	}
	for _, b := range p {
		switch {
		case b == '\n' && a.begun && !a.text:
			a.heads++
			a.begun = false
		case b == '\n':
			a.text = false
		case b != '\r':
			a.begun, a.text = true, true
		}
	}
}

// await is called before more is read, which means that what was read has been used.
func (a *arrivals) await() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heads = 0
	if a.between && a.body {
		a.body, a.begun, a.text = false, false, false
	}
}

// idle is called when a request has been answered.
func (a *arrivals) idle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.between = true
}

// handle is called when a request has come to the handler.
func (a *arrivals) handle(body bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heads = max(0, a.heads-1)
	a.between = false
	a.body = a.body || body
}

// more reports whether another request has arrived, or has begun to.
func (a *arrivals) more() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.body && (a.heads > 0 || a.begun)
}

// arrivalsOf returns nothing for a connection that is not followed.
func arrivalsOf(conn net.Conn) *arrivals {
	if c, ok := conn.(interface{ arrived() *arrivals }); ok {
		return c.arrived()
	}
	return new(arrivals)
}

func (c *followedConn) arrived() *arrivals { return &c.arrivals }

// unwrap returns the connection that was accepted, for the program.
func unwrap(conn net.Conn) net.Conn {
	if c, ok := conn.(interface{ original() net.Conn }); ok {
		return c.original()
	}
	return conn
}

// keyOf returns what stands for the connection in all that is kept of it: what Accept has returned
// to net/http. (The connection that was accepted may be of a type that cannot be compared.)
func keyOf(conn net.Conn) net.Conn {
	if c, ok := conn.(interface{ key() net.Conn }); ok {
		return c.key()
	}
	return conn
}
