package graceful

import (
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// drain stands in front of a server's handler and knows its connections.
type drain struct {
	srv       *http.Server
	listeners []net.Listener
	handler   http.Handler
	begun     atomic.Bool
	conns     sync.WaitGroup // all that are accepted and neither closed nor hijacked
}

func newDrain(srv *http.Server, listeners []net.Listener) *drain {
	d := &drain{srv: srv, listeners: listeners, handler: srv.Handler}
	if d.handler == nil {
		d.handler = http.DefaultServeMux
	}
	srv.Handler = d

	connState := srv.ConnState
	srv.ConnState = func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			d.conns.Add(1)
		case http.StateHijacked, http.StateClosed:
			defer d.conns.Done()
		}
		if connState != nil {
			connState(conn, state)
		}
	}
	return d
}

// begin makes every answer from now on the last of its connection, and ends the accepting.
func (d *drain) begin() {
	d.begun.Store(true)
	d.closeListeners()
}

func (d *drain) closeListeners() {
	for _, l := range d.listeners {
		l.Close()
	}
}

// wait returns when no connection is left or the time is over. No listener may be accepting any more.
func (d *drain) wait(limit time.Duration) {
	empty := make(chan struct{})
	go func() {
		d.conns.Wait()
		close(empty)
	}()
	select {
	case <-empty:
	case <-time.After(limit):
	}
}

func (d *drain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if http1, ok := w.(http1Writer); ok {
		last := &lastWriter{http1, &d.begun}
		d.handler.ServeHTTP(last, r)
		last.announce() // for a handler that has written nothing
		return
	}
	if d.begun.Load() {
		w.Header().Set("Connection", "close") // over HTTP/2 net/http makes a GOAWAY of it
	}
	d.handler.ServeHTTP(w, r)
}

// http1Writer is all that handlers may expect of net/http's writer for HTTP/1, so that lastWriter can stand in for it.
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

// lastWriter decides as late as it can, when the header is written, whether the answer is the connection's last. The
// handler may have been at work for long when the stop begins.
type lastWriter struct {
	http1Writer
	last *atomic.Bool
}

func (w *lastWriter) announce() {
	if w.last.Load() {
		w.Header().Set("Connection", "close")
	}
}

// Unwrap is for http.ResponseController.
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
