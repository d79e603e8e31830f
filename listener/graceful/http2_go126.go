//go:build !go1.27

package graceful

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// Until Go 1.26 net/http serves HTTP/2 over TLS only on a tls.Conn, so the connection is put into
// an http2Conn by the functions in TLSNextProto. This file goes when Go 1.26 is no longer supported.

// Keys of http.Server.TLSNextProto. Under the second one, which net/http and golang.org/x/net/http2
// have used between each other since Go 1.24, stands a function that serves HTTP/2 on any net.Conn.
// The conn is in a tls.Conn whose NetConn has a method UnencryptedNetConn.
const (
	protoHTTP2       = "h2"
	protoUnencrypted = "unencrypted_http2"
)

const prefaceTimeout = 10 * time.Second // as in net/http

// takeOverHTTP2 makes the server put each HTTP/2 connection over TLS into an http2Conn; those
// without TLS become one when they begin. If the server does not speak HTTP/2, or this net/http does
// it in another way, nothing changes.
func (s *httpServer) takeOverHTTP2() {
	s.prime()
	if !s.secure {
		for _, a := range s.acceptors {
			a.wrap = s.follow
		}
	}
	serve, ok := s.srv.TLSNextProto[protoUnencrypted]
	s.http2 = ok
	if _, speaks := s.srv.TLSNextProto[protoHTTP2]; !ok || !speaks {
		return
	}
	s.srv.TLSNextProto[protoHTTP2] = func(srv *http.Server, c *tls.Conn, h http.Handler) {
		if readPreface(c) == nil {
			s.serveHTTP2(serve, c, h)
		}
	}
}

// readPreface reads what a client of HTTP/2 sends first, as net/http does unless it has done so
// already, which it takes for granted of a conn that comes by protoUnencrypted.
func readPreface(conn net.Conn) error {
	conn.SetReadDeadline(time.Now().Add(prefaceTimeout))
	got := make([]byte, len(preface))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(got, []byte(preface)) {
		return errors.New("not an HTTP/2 client")
	}
	return conn.SetReadDeadline(time.Time{})
}

// serveHTTP2 serves HTTP/2 on a connection whose preface was read.
func (s *httpServer) serveHTTP2(serve func(*http.Server, *tls.Conn, http.Handler), conn *tls.Conn, h http.Handler) {
	c := &http2Conn{Conn: conn}
	if one := s.connections.find(conn); one != nil {
		one.mu.Lock()
		one.http2 = c
		one.mu.Unlock()
	}
	serve(s.srv, tls.Client(unencrypted{conn: &http2TLSConn{c, conn}}, nil), h)
}

// unencrypted carries a conn in a tls.Conn.
type unencrypted struct {
	net.Conn // nil: the tls.Conn is never used
	conn     net.Conn
}

func (u unencrypted) UnencryptedNetConn() net.Conn { return u.conn }

// http2TLSConn is an http2Conn over TLS, which net/http recognizes by the method ConnectionState.
type http2TLSConn struct {
	*http2Conn
	secure *tls.Conn
}

func (c *http2TLSConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }

func (c *http2TLSConn) key() net.Conn { return c.secure }
