package graceful

import (
	"net"
	"sync"
	"time"
)

// net/http ends an HTTP/2 connection with one GOAWAY that names the last request it has seen, and
// drops those that are on their way by then. RFC 9113, 6.8, asks for two: a first one that names
// the highest number there is, so that the client opens no further streams while those on their way
// are still taken, and a second one a round trip later. net/http has no way to ask for the first,
// so http2Conn writes it between two of net/http's frames.

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// goAway is the first GOAWAY: 8 bytes of payload, type 7, stream 0; last stream 2^31-1, NO_ERROR.
var goAway = []byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}

const (
	frameHeaderLen = 9
	frameHeaders   = 1
)

// prime lets net/http fill in TLSNextProto, which it does when it begins to serve.
func (s *httpServer) prime() {
	baseContext := s.srv.BaseContext
	s.srv.BaseContext = nil
	s.accept(closedListener{})
	s.srv.BaseContext = baseContext
}

type closedListener struct{}

func (closedListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (closedListener) Close() error              { return nil }
func (closedListener) Addr() net.Addr            { return &net.TCPAddr{} }

// http2Conn follows the frames that the server writes, so that it can put one between two of them.
type http2Conn struct {
	net.Conn

	mu       sync.Mutex
	header   []byte    // of the frame being written, as far as that has come
	left     int       // bytes of its payload that are still to come
	begun    bool      // the first frame was written
	answered bool      // a request was answered, or is being
	want     bool      // GOAWAY at the next boundary
	ordered  time.Time // when askToGo was first called
	asked    time.Time // when the GOAWAY was written
}

// original is the connection that was accepted.
func (c *http2Conn) original() net.Conn { return c.Conn }

// askToGo writes the first GOAWAY, once and without waiting. A new client gets its first answer
// before: some treat a GOAWAY in its place as an error.
func (c *http2Conn) askToGo(now time.Time) {
	if !c.mu.TryLock() {
		return // it is being written to, and asked again
	}
	defer c.mu.Unlock()
	if c.ordered.IsZero() {
		c.ordered = now
	}
	if c.want || !c.asked.IsZero() || !c.begun || !c.answered && now.Sub(c.ordered) < settle {
		return
	}
	c.want = true
	if c.atBoundary() {
		go c.Write(nil)
	}
}

// gone reports whether the client has had time to notice that it was asked to go, or could not be
// asked.
func (c *http2Conn) gone(now time.Time) bool {
	if !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	if c.asked.IsZero() {
		return !c.ordered.IsZero() && now.Sub(c.ordered) >= 3*settle
	}
	return now.Sub(c.asked) >= settle
}

// ignored reports whether the first GOAWAY was sent so long ago that the client ignores it.
func (c *http2Conn) ignored(grace time.Duration) bool {
	if !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	return !c.asked.IsZero() && time.Since(c.asked) > max(grace, settle)
}

func (c *http2Conn) atBoundary() bool { return len(c.header) == 0 && c.left == 0 }

// Write writes p, and the GOAWAY at the first boundary in it.
func (c *http2Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := 0
	for {
		n := c.follow(p[written:], c.want)
		if n > 0 {
			m, err := c.Conn.Write(p[written : written+n])
			written += m
			if err != nil {
				return written, err
			}
		}
		if c.want && c.atBoundary() {
			c.want, c.asked = false, time.Now()
			if _, err := c.Conn.Write(goAway); err != nil {
				return written, err
			}
		}
		if written == len(p) {
			return written, nil
		}
	}
}

// follow reads frames in p and returns how far it got: to the end or, if asked, the first boundary.
func (c *http2Conn) follow(p []byte, boundary bool) int {
	n := 0
	for n < len(p) && !(boundary && c.atBoundary()) {
		if c.left > 0 {
			step := min(c.left, len(p)-n)
			c.left -= step
			n += step
			continue
		}
		step := min(frameHeaderLen-len(c.header), len(p)-n)
		c.header = append(c.header, p[n:n+step]...)
		n += step
		if len(c.header) == frameHeaderLen {
			c.left = int(c.header[0])<<16 | int(c.header[1])<<8 | int(c.header[2])
			c.begun = true
			c.answered = c.answered || c.header[3] == frameHeaders
			c.header = c.header[:0]
		}
	}
	return n
}
