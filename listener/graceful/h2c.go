package graceful

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
)

// golang.org/x/net/http2/h2c, which gin and echo use, is a handler: it hijacks a connection on
// which a client asks for HTTP/2 without TLS and serves it. It cannot be asked to stop, but it
// reports the connection's states to the server's ConnState. So the connection is put into an
// http2Conn, as those that net/http serves are.

// asksForHTTP2 reports whether the request is how a client begins HTTP/2 without TLS: knowing that
// the server speaks it, or by an Upgrade header.
func asksForHTTP2(r *http.Request) (asks, upgrade bool) {
	if r.TLS != nil {
		return false, false
	}
	if r.Method == "PRI" && r.ProtoMajor == 2 && r.URL.Path == "*" {
		return true, false
	}
	upgrade = r.Header["Http2-Settings"] != nil && strings.EqualFold(strings.TrimSpace(r.Header.Get("Upgrade")), "h2c")
	return upgrade, upgrade
}

// keepHTTP2 returns what stands in for a hijacked connection on which HTTP/2 is about to begin. The
// handler may read the rest of the preface from the reader; the answer to an upgrade, which is not
// of HTTP/2, goes past the http2Conn by the writer.
func (c *connections) keepHTTP2(key net.Conn, buffered *bufio.ReadWriter, upgrade bool) (net.Conn, *bufio.ReadWriter) {
	h := &h2cConn{&http2Conn{Conn: unwrap(key)}, buffered.Reader, closeHook{key, c}}
	c.keep(key, &connection{state: http.StateActive, http2: h.http2Conn, h2c: true, upgrade: upgrade})
	return h, bufio.NewReadWriter(bufio.NewReader(byteReader{h}), buffered.Writer)
}

type h2cConn struct {
	*http2Conn
	early *bufio.Reader // what net/http has read of it, first
	hook  closeHook
}

func (c *h2cConn) Read(p []byte) (int, error) {
	if c.early.Buffered() > 0 {
		return c.early.Read(p)
	}
	return c.Conn.Read(p)
}

func (c *h2cConn) Close() error { return c.hook.Close() }

func (c *h2cConn) key() net.Conn { return c.hook.conn }

// byteReader keeps a bufio.Reader from reading ahead. If that has something left, package h2c wraps
// the connection, and ConnState cannot know whose state it reports.
type byteReader struct{ io.Reader }

func (r byteReader) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }
