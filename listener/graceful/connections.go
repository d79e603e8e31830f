package graceful

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// settle is how long an HTTP/2 client has to act on a GOAWAY: more than a round trip, the same
// second that net/http waits.
const settle = time.Second

// connections are those that a server has accepted and that are neither closed nor hijacked, and
// the number of those that are hijacked and not closed.
type connections struct {
	all      sync.Map // net.Conn to *connection
	hijacked atomic.Int64
}

// connection is what is known of a connection. net/http reports its state and cannot be asked for
// it.
type connection struct {
	mu      sync.Mutex
	state   http.ConnState
	since   time.Time // when the state was reported
	http2   *http2Conn
	closing bool
}

// observe takes what http.Server.ConnState reports.
func (c *connections) observe(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.all.Store(conn, &connection{state: state, since: time.Now()})
	case http.StateActive, http.StateIdle:
		if one := c.find(conn); one != nil {
			one.mu.Lock()
			one.state, one.since = state, time.Now()
			one.mu.Unlock()
		}
	case http.StateHijacked, http.StateClosed:
		c.all.Delete(conn)
	}
}

func (c *connections) find(conn net.Conn) *connection {
	one, ok := c.all.Load(conn)
	if !ok {
		return nil
	}
	return one.(*connection)
}

// sweep closes connections whose time for a further request is over, sends GOAWAY to HTTP/2
// clients, and returns how many connections are left.
func (c *connections) sweep(now time.Time, grace time.Duration) int {
	left := int(c.hijacked.Load())
	c.all.Range(func(key, value any) bool {
		left++
		one := value.(*connection)
		one.mu.Lock()
		defer one.mu.Unlock()
		if !one.closing && one.expired(now, grace) {
			one.closing = true
			go key.(net.Conn).Close() // over TLS it writes, and may wait
		}
		return true
	})
	return left
}

func (c *connections) closeAll() {
	c.all.Range(func(key, _ any) bool {
		go key.(net.Conn).Close()
		return true
	})
}

// expired reports whether the connection waits for a request that is no longer expected: for HTTP/1
// because its last one is long ago, for HTTP/2 because its client was asked to go.
func (c *connection) expired(now time.Time, grace time.Duration) bool {
	if c.http2 != nil {
		c.http2.askToGo(now)
	}
	if c.state != http.StateNew && c.state != http.StateIdle {
		return false
	}
	if c.http2 != nil && grace >= 0 {
		return c.http2.gone(now) && now.Sub(c.since) >= settle
	}
	return now.Sub(c.since) >= grace
}

// String counts the connections in each state, and names the client whose request has taken
// longest.
func (c *connections) String() string {
	var requests, idle int
	var oldest net.Conn
	var since time.Time
	c.all.Range(func(key, value any) bool {
		one := value.(*connection)
		one.mu.Lock()
		defer one.mu.Unlock()
		if one.state != http.StateActive {
			idle++
			return true
		}
		requests++
		if oldest == nil || one.since.Before(since) {
			oldest, since = key.(net.Conn), one.since
		}
		return true
	})
	var parts []string
	if requests > 0 {
		parts = append(parts, fmt.Sprintf("%d connections with a request under way (longest: %v, for %v)",
			requests, oldest.RemoteAddr(), time.Since(since).Round(time.Second)))
	}
	if idle > 0 {
		parts = append(parts, fmt.Sprintf("%d idle connections", idle))
	}
	if n := c.hijacked.Load(); n > 0 {
		parts = append(parts, fmt.Sprintf("%d hijacked connections", n))
	}
	return strings.Join(parts, ", ")
}
