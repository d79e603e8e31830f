package graceful

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// pollInterval is how often a draining server looks at its connections.
const pollInterval = 20 * time.Millisecond

// httpServer is an http.Server in a group. It wraps the server's handler and tracks its
// connections.
type httpServer struct {
	group            *Group
	srv              *http.Server
	acceptors        []*acceptor
	secure           bool
	accept           func(net.Listener) error // srv.Serve or srv.ServeTLS
	handler          http.Handler
	http2            bool // HTTP/2 connections are http2Conns, and end in their own way
	connections      connections
	onShutdown       shutdownFuncs
	stoppedByProgram atomic.Bool // the program has called Shutdown or Close
	stopping         atomic.Bool
	failed           chan error // what serve returned before stopping
	accepting        chan struct{}
}

func newHTTPServer(g *Group, srv *http.Server, listeners []net.Listener, secure bool) *httpServer {
	s := &httpServer{group: g, srv: srv, secure: secure, accept: srv.Serve, accepting: make(chan struct{}), failed: make(chan error, 1)}
	if secure {
		s.accept = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	s.acceptOn(listeners)
	return s
}

// prepare reads the fields of the server, which the program may set until then.
func (s *httpServer) prepare() {
	s.handler = s.srv.Handler
	if s.handler == nil {
		s.handler = http.DefaultServeMux
	}
	s.takeOverHTTP2()
	s.hook()
}

func (s *httpServer) acceptOn(listeners []net.Listener) {
	for _, l := range listeners {
		s.acceptors = append(s.acceptors, newAcceptor(l))
	}
}

// defaultAddr is what an empty Addr means.
func (s *httpServer) defaultAddr() string {
	if s.secure {
		return ":https"
	}
	return ":http"
}

// hook wraps the server's Handler, ConnState, ConnContext and BaseContext, and those protocols of
// TLSNextProto of which net/http reports no state: their connections are at work until they end.
func (s *httpServer) hook() {
	s.srv.Handler = s
	for proto, serve := range s.srv.TLSNextProto {
		if s.http2 && (proto == protoHTTP2 || proto == "unencrypted_http2") {
			continue // it reports the state
		}
		s.srv.TLSNextProto[proto] = func(srv *http.Server, conn *tls.Conn, h http.Handler) {
			s.connections.observe(conn, http.StateActive)
			serve(srv, conn, h)
		}
	}
	connState := s.srv.ConnState
	s.srv.ConnState = func(conn net.Conn, state http.ConnState) {
		s.connections.observe(keyOf(conn), state)
		if connState != nil {
			connState(unwrap(conn), state)
		}
	}
	connContext := s.srv.ConnContext
	s.srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, unwrap(conn))
		}
		if ctx == nil {
			return nil // net/http reports it
		}
		return context.WithValue(ctx, connKey{}, keyOf(conn))
	}
	baseContext := s.srv.BaseContext
	s.srv.BaseContext = func(l net.Listener) context.Context {
		ctx := context.Background()
		if baseContext != nil {
			if a, ok := l.(*acceptor); ok {
				l = a.Listener
			}
			ctx = baseContext(l)
		}
		return context.WithValue(ctx, drainingKey{}, s.group.Draining())
	}
}

func (s *httpServer) serving() <-chan struct{} { return s.accepting }

// serve returns when one of the accept loops has ended.
func (s *httpServer) serve() error {
	ended := make(chan error, len(s.acceptors))
	for _, a := range s.acceptors {
		go func() {
			err := s.accept(a)
			a.ended()
			ended <- err
		}()
	}
	all := make(chan struct{})
	go func() {
		for _, a := range s.acceptors {
			select {
			case <-a.accepting:
			case <-all:
				return
			}
		}
		close(s.accepting)
	}()
	err := <-ended
	close(all)
	if err == http.ErrServerClosed {
		s.stoppedByProgram.Store(true)
	}
	if !s.stopping.Load() {
		s.failed <- err
	}
	return err
}

// beginDrain runs what was given to RegisterOnShutdown, if that can be had, so that handlers learn of
// the stop at once.
func (s *httpServer) beginDrain() {
	if !s.stoppedByProgram.Load() {
		s.onShutdown.run(s.srv)
	}
}

func (s *httpServer) stopAccepting() {
	s.stopping.Store(true)
	for _, a := range s.acceptors {
		a.Close()
	}
}

// drain leaves nothing to Shutdown, which would close fresh and idle connections while a request is
// on its way.
func (s *httpServer) drain(ctx context.Context) error {
	if s.stoppedByProgram.Load() {
		return nil
	}
	stuck := false
	for _, a := range s.acceptors {
		stuck = !a.waitClosed(ctx) || stuck
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for s.connections.sweep(time.Now(), s.group.grace()) > 0 || s.onShutdown.running() > 0 {
		if s.connections.settled(time.Now()) {
			s.onShutdown.settled(ctx, s.srv)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if stuck {
		return nil // Shutdown would wait for it
	}
	return s.onShutdown.shutdown(ctx, s.srv)
}

func (s *httpServer) failure() error {
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}

func (s *httpServer) abort() { s.connections.closeAll() }

func (s *httpServer) pending() string {
	if s.stoppedByProgram.Load() {
		return ""
	}
	var parts []string
	if what := s.connections.String(); what != "" {
		parts = append(parts, what)
	}
	if s.onShutdown.running() > 0 {
		parts = append(parts, "functions given to RegisterOnShutdown")
	}
	return strings.Join(parts, ", ")
}

type drainingKey struct{}

// Draining returns a channel that is closed when the server of a request begins to drain, given the
// request's context. A handler whose answer has no end, like an event stream or a long poll, ends
// it then. For a context of anything else it is nil, which never is ready.
func Draining(ctx context.Context) <-chan struct{} {
	draining, _ := ctx.Value(drainingKey{}).(<-chan struct{})
	return draining
}
