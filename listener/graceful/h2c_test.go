package graceful

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// h2cHandler does what golang.org/x/net/http2/h2c.NewHandler does, with net/http's HTTP/2. That
// handler itself is tested in testdata/examples.
type h2cHandler struct{ http.Handler }

func (h h2cHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != "PRI" {
		h.Handler.ServeHTTP(w, r)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	if _, err := io.ReadFull(buffered, make([]byte, len("SM\r\n\r\n"))); err != nil {
		return
	}
	if buffered.Reader.Buffered() > 0 {
		panic("package h2c would hide the type of the connection")
	}
	outer := r.Context().Value(http.ServerContextKey).(*http.Server)
	closed := make(chan struct{})
	inner := &http.Server{Handler: h.Handler, Protocols: new(http.Protocols)}
	inner.Protocols.SetUnencryptedHTTP2(true)
	inner.ConnState = func(conn net.Conn, state http.ConnState) {
		if state != http.StateNew { // which package h2c does not report
			outer.ConnState(conn, state)
		}
		if state == http.StateClosed {
			close(closed)
		}
	}
	again := &prefacedConn{conn.(*h2cConn), io.MultiReader(strings.NewReader(preface), conn)}
	inner.Serve(&oneConn{conn: again})
	<-closed
}

// prefacedConn gives the preface again, which the handler has read.
type prefacedConn struct {
	*h2cConn
	reader io.Reader
}

func (c *prefacedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// oneConn accepts a connection, once.
type oneConn struct {
	closedListener
	conn net.Conn
}

func (l *oneConn) Accept() (net.Conn, error) {
	conn := l.conn
	if l.conn = nil; conn == nil {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func h2cTransport() *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return transport
}

func getH2C(transport *http.Transport, url string) string {
	proto, body := fetch(&http.Client{Transport: transport, Timeout: testLimit}, url)
	return proto + " " + body
}

func TestH2C(t *testing.T) {
	g := newGate()
	logged := make(lines, 10)
	s := startGroup(t, &Group{Grace: time.Hour, Logf: logged.logf}, &http.Server{Handler: h2cHandler{g}})
	if got := getH2C(h2cTransport(), "http://"+s.addr); got != "HTTP/2.0 hello" { // idle from here on
		t.Error(got)
	}
	busy := h2cTransport()
	answer := make(chan string)
	go func() { answer <- getH2C(busy, "http://"+s.addr+"/slow") }()
	receive(t, g.entered)
	until(t, func() bool { return strings.Contains(s.connections().String(), "1 idle connections") })
	s.term()
	logged.want(t, "1 connections with a request under way", "1 idle connections")
	time.AfterFunc(2*settle, func() { close(g.leave) }) // longer than an idle client is waited for
	if got := receive(t, answer); got != "HTTP/2.0 slow" {
		t.Error(got)
	}
	s.wantEnd()
}

func TestH2CIsClosedAtTheTimeout(t *testing.T) {
	g := newGate()
	defer close(g.leave)
	s := startGroup(t, &Group{DrainTimeout: 10 * pollInterval}, &http.Server{Handler: h2cHandler{g}})
	answer := make(chan string)
	go func() { answer <- getH2C(h2cTransport(), "http://"+s.addr+"/slow") }()
	receive(t, g.entered)
	s.term()
	if err := receive(t, s.ended); err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		t.Error(err)
	}
	if got := receive(t, answer); !strings.Contains(got, "http://") {
		t.Errorf("answered %q", got)
	}
}

// What a client that asks by an Upgrade header gets for that request is the first answer of HTTP/2.
func TestH2CUpgradeIsUnderWay(t *testing.T) {
	var c connections
	conn := &recorder{}
	c.keep(conn, &connection{state: http.StateActive, http2: &http2Conn{Conn: conn}, h2c: true, upgrade: true})
	for _, state := range []http.ConnState{http.StateActive, http.StateActive, http.StateIdle} {
		c.observe(conn, state)
	}
	if one := c.find(conn); one.state != http.StateActive {
		t.Errorf("%v while the request is under way", one.state)
	}
	if c.observe(conn, http.StateIdle); c.find(conn).state != http.StateIdle {
		t.Error("the answer was not noticed")
	}
}
