//go:build !go1.27

package graceful

import (
	"bytes"
	"context"
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

// takeOverHTTP2 makes the server put each HTTP/2 connection into an http2Conn. If it does not speak
// HTTP/2, or this net/http does it in another way, nothing changes.
func (s *httpServer) takeOverHTTP2() {
	s.prime()
	serve, ok := s.srv.TLSNextProto[protoUnencrypted]
	if !ok {
		return
	}
	s.http2 = true
	s.srv.TLSNextProto[protoUnencrypted] = func(srv *http.Server, c *tls.Conn, h http.Handler) {
		if inner, ok := c.NetConn().(interface{ UnencryptedNetConn() net.Conn }); ok {
			s.serveHTTP2(serve, inner.UnencryptedNetConn(), h)
		}
	}
	if _, ok := s.srv.TLSNextProto[protoHTTP2]; !ok {
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
func (s *httpServer) serveHTTP2(serve func(*http.Server, *tls.Conn, http.Handler), conn net.Conn, h http.Handler) {
	c := &http2Conn{Conn: conn}
	if one := s.connections.find(conn); one != nil {
		one.mu.Lock()
		one.http2 = c
		one.mu.Unlock()
	}
	var wrapped net.Conn = c
	if secure, ok := conn.(*tls.Conn); ok {
		wrapped = &http2TLSConn{c, secure}
	}
	handler := &http2Handler{h, c, s}
	serve(s.srv, tls.Client(unencrypted{conn: wrapped}, nil), handler)
}

// unencrypted carries a conn in a tls.Conn.
type unencrypted struct {
	net.Conn // nil: the tls.Conn is never used
	conn     net.Conn
}

func (u unencrypted) UnencryptedNetConn() net.Conn { return u.conn }

// http2Handler handles the requests of one connection. A client that keeps sending requests
// after the first GOAWAY gets that of net/http, by Connection: close.
type http2Handler struct {
	http.Handler
	conn   *http2Conn
	server *httpServer
}

func (h *http2Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.conn.ignored(h.server.group.grace()) {
		w.Header().Set("Connection", "close")
	}
	h.Handler.ServeHTTP(w, r)
}

// BaseContext is how net/http passes the connection's context to its HTTP/2.
func (h *http2Handler) BaseContext() context.Context {
	if b, ok := h.Handler.(interface{ BaseContext() context.Context }); ok {
		return b.BaseContext()
	}
	return context.Background()
}

// http2TLSConn is an http2Conn over TLS, which net/http recognizes by the method ConnectionState.
type http2TLSConn struct {
	*http2Conn
	secure *tls.Conn
}

func (c *http2TLSConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }
