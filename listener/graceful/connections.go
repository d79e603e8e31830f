package graceful

import (
	"context"
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

// connections are those that a server has accepted and that are not closed.
type connections struct {
	all       sync.Map     // net.Conn to *connection
	hijacking atomic.Int64 // how many are in a call of Hijack, and so not in all
	aborted   atomic.Bool
	began     time.Time // of the first sweep
}

// connection is what is known of a connection. net/http reports its state and cannot be asked for
// it.
type connection struct {
	mu      sync.Mutex
	state   http.ConnState
	since   time.Time // when the state was reported
	http2   *http2Conn
	h2c     bool // HTTP/2 of a handler, which reports the states of it
	upgrade bool // the next report of h2c is wrong
	looked  bool // since may be when the last bytes came
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
			defer one.mu.Unlock()
			if one.upgrade && state == http.StateIdle {
				one.upgrade = false // the request that asked for the upgrade is under way
				return
			}
			one.state, one.since, one.looked = state, time.Now(), false
			if state == http.StateIdle {
				arrivalsOf(conn).idle()
			}
		}
	case http.StateHijacked, http.StateClosed:
		c.all.Delete(conn)
	}
}

// isClosing reports whether it is decided that the connection of the request ends, or was when the
// request came.
func (c *connections) isClosing(ctx context.Context) bool {
	conn, _ := ctx.Value(connKey{}).(net.Conn)
	one := c.find(conn)
	if one == nil {
		return false
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.closing
}

type connKey struct{}

// keep takes note of a connection that was hijacked.
func (c *connections) keep(conn net.Conn, one *connection) {
	one.since = time.Now()
	c.all.Store(conn, one)
	if c.aborted.Load() {
		conn.Close()
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
	if c.began.IsZero() {
		c.began = now
	}
	left := int(c.hijacking.Load())
	c.all.Range(func(key, value any) bool {
		left++
		conn, one := key.(net.Conn), value.(*connection)
		one.mu.Lock()
		defer one.mu.Unlock()
		if !one.closing && one.expired(unwrap(conn), now, c.began, grace) {
			one.closing = true
			if one.http2 != nil || !closeReading(unwrap(conn)) {
				go conn.Close() // over TLS it writes, and may wait
			}
		}
		return true
	})
	return left
}

// settled reports whether each connection that is left has had a request under way for so long that
// its handler was called, or is hijacked, so that net/http's Shutdown drops nothing.
func (c *connections) settled(now time.Time) bool {
	settled := true
	c.all.Range(func(_, value any) bool {
		one := value.(*connection)
		one.mu.Lock()
		defer one.mu.Unlock()
		settled = one.state == http.StateHijacked ||
			one.state == http.StateActive && now.Sub(one.since) >= settle && (one.http2 == nil || one.http2.gone(now))
		return settled
	})
	return settled
}

func (c *connections) closeAll() {
	c.aborted.Store(true)
	c.all.Range(func(key, _ any) bool {
		go key.(net.Conn).Close()
		return true
	})
}

// expired reports whether the connection waits for a request that is no longer expected: for HTTP/1
// because its last one is long ago and nothing has come since, for HTTP/2 because its client was
// asked to go. Of a part of a request net/http reports nothing, so it is looked for once. If that
// is impossible, there may be one.
func (c *connection) expired(conn net.Conn, now, began time.Time, grace time.Duration) bool {
	if c.http2 != nil {
		c.http2.askToGo(now)
	}
	if c.state != http.StateNew && c.state != http.StateIdle {
		return false
	}
	if c.http2 != nil && grace >= 0 {
		if c.h2c && c.http2.ignored(grace) {
			return true
		}
		return c.http2.gone(now) && now.Sub(c.since) >= settle
	}
	if now.Sub(c.since) >= grace && !c.looked {
		c.looked = true
		received, ok := lastReceived(conn)
		if !ok {
			received = began
		}
		if received.After(c.since) {
			c.since = received
		}
	}
	return now.Sub(c.since) >= grace
}

// String counts the connections in each state, and names the client whose request has taken
// longest.
func (c *connections) String() string {
	var requests, idle, hijacked int
	var oldest net.Conn
	var since time.Time
	c.all.Range(func(key, value any) bool {
		one := value.(*connection)
		one.mu.Lock()
		defer one.mu.Unlock()
		switch one.state {
		case http.StateHijacked:
			hijacked++
			return true
		case http.StateNew, http.StateIdle:
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
	if hijacked > 0 {
		parts = append(parts, fmt.Sprintf("%d hijacked connections", hijacked))
	}
	return strings.Join(parts, ", ")
}
