package graceful

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"time"
)

// ServeHTTP makes the answer the last of its connection if the server drains.
//
// Until it does, the writer of a request with a body goes to the handler as it is:
// http.MaxBytesReader closes the connection of a body that is too large by a method of net/http's
// own writer. An upload that is under way when the drain begins may therefore leave its connection
// open, for the grace period.
func (s *httpServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.group.closing.Load() && s.connections.isClosing(r.Context()) {
		// The request came when its connection was being closed for reading, which is not the
		// client that hangs up.
		own := r
		r = own.WithContext(context.WithoutCancel(own.Context()))
		defer func() { own.MultipartForm = r.MultipartForm }() // net/http removes its files
	}
	http1, ok := w.(http1Writer)
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	arrived := arrivalsOf(conn)
	arrived.handle(r.ContentLength != 0)
	h2c, upgrade := asksForHTTP2(r)
	switch body := r.ContentLength != 0 && r.Header.Get("Upgrade") == "" && !h2c; {
	case !ok:
		if s.isLast(r) {
			w.Header().Set("Connection", "close") // over HTTP/2 net/http makes a GOAWAY of it
		}
		s.handler.ServeHTTP(w, r)
	case body && !s.group.closing.Load():
		s.handler.ServeHTTP(w, r)
		if s.group.closing.Load() {
			w.Header().Set("Connection", "close") // not too late for an answer without a header of its own
		}
	default:
		last := &lastWriter{http1, s, arrived, h2c, upgrade}
		s.handler.ServeHTTP(last, r)
		last.announce() // for a handler that has written nothing
	}
}

// isLast reports whether the answer to a request of HTTP/2 is to be the last of its connection. If
// the first GOAWAY is sent, it is only after a client has ignored that.
func (s *httpServer) isLast(r *http.Request) bool {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	closing := s.group.closing.Load()
	one := s.connections.find(conn)
	if one == nil {
		return closing && !s.http2
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.http2 == nil && r.ProtoMajor == 2 {
		s.group.warnHTTP2(s.acceptors[0].Addr())
	}
	return closing && (one.http2 == nil || one.http2.ignored(s.group.grace()))
}

// http1Writer is all that handlers may expect of net/http's writer for HTTP/1, so that lastWriter
// can stand in for it.
type http1Writer interface {
	http.ResponseWriter
	http.Flusher
	http.Hijacker
	io.ReaderFrom
	io.StringWriter
	CloseNotify() <-chan bool
	FlushError() error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	EnableFullDuplex() error
}

// lastWriter decides as late as it can, when the header is written, whether the answer is the
// connection's last: the handler may have been at work for long when the drain begins. It also
// keeps account of connections that are hijacked.
type lastWriter struct {
	http1Writer
	server       *httpServer
	arrived      *arrivals
	h2c, upgrade bool // the request is one for HTTP/2, by an Upgrade header
}

func (w *lastWriter) announce() {
	if w.server.group.closing.Load() && !w.arrived.more() {
		w.Header().Set("Connection", "close")
	}
}

// Unwrap is for http.ResponseController, which looks for what lastWriter does not have.
func (w *lastWriter) Unwrap() http.ResponseWriter { return w.http1Writer }

func (w *lastWriter) WriteHeader(code int) {
	if code >= http.StatusOK { // the others come before the answer, or switch to another protocol
		w.announce()
	}
	w.http1Writer.WriteHeader(code)
}

func (w *lastWriter) Write(p []byte) (int, error) {
	w.announce()
	return w.http1Writer.Write(p)
}

func (w *lastWriter) WriteString(s string) (int, error) {
	w.announce()
	return w.http1Writer.WriteString(s)
}

func (w *lastWriter) ReadFrom(r io.Reader) (int64, error) {
	w.announce()
	return w.http1Writer.ReadFrom(r)
}

func (w *lastWriter) Flush() {
	w.announce()
	w.http1Writer.Flush()
}

func (w *lastWriter) FlushError() error {
	w.announce()
	return w.http1Writer.FlushError()
}

// Hijack hands the connection to the handler, in a type that has all methods of what net/http gives
// and reports that it was closed.
func (w *lastWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c := &w.server.connections
	c.hijacking.Add(1) // before net/http reports it gone, so that it is counted at any time
	defer c.hijacking.Add(-1)
	conn, buffered, err := w.http1Writer.Hijack()
	if err != nil {
		return conn, buffered, err
	}
	key := keyOf(conn)
	if w.h2c {
		conn, buffered = c.keepHTTP2(key, buffered, w.upgrade)
		return conn, buffered, nil
	}
	c.keep(key, &connection{state: http.StateHijacked})
	return watchClose(key, c), buffered, nil
}

// closeHook closes a connection that was hijacked, and forgets it.
type closeHook struct {
	conn        net.Conn
	connections *connections
}

func (h *closeHook) Close() error {
	err := h.conn.Close()
	h.release()
	return err
}

func (h *closeHook) release() { h.connections.all.Delete(h.conn) }

type (
	hijackedTCP struct {
		*net.TCPConn
		hook *closeHook
	}
	hijackedUnix struct {
		*net.UnixConn
		hook *closeHook
	}
	hijackedTLS struct {
		*tls.Conn
		hook *closeHook
	}
	hijackedConn struct {
		net.Conn
		hook *closeHook
	}
)

func (c *hijackedTCP) Close() error  { return c.hook.Close() }
func (c *hijackedUnix) Close() error { return c.hook.Close() }
func (c *hijackedTLS) Close() error  { return c.hook.Close() }
func (c *hijackedConn) Close() error { return c.hook.Close() }

// watchClose forgets the connection when it is closed, or was forgotten by the handler.
func watchClose(key net.Conn, connections *connections) net.Conn {
	hook := &closeHook{key, connections}
	switch conn := unwrap(key).(type) {
	case *net.TCPConn:
		return releaseForgotten(&hijackedTCP{conn, hook}, hook)
	case *net.UnixConn:
		return releaseForgotten(&hijackedUnix{conn, hook}, hook)
	case *tls.Conn:
		return releaseForgotten(&hijackedTLS{conn, hook}, hook)
	}
	return releaseForgotten(&hijackedConn{unwrap(key), hook}, hook)
}

func releaseForgotten[T any](conn *T, hook *closeHook) *T {
	runtime.AddCleanup(conn, (*closeHook).release, hook)
	return conn
}
