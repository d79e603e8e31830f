package graceful

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// stuckAccept is how long Accept may take to fail after its listener was closed. It never fails if
// the socket was made blocking, by Fd of the file that File returns: the call sits in the kernel.
const stuckAccept = time.Second

// lastAccepted is how long a server has to take note of the connections that it accepted last, in
// the goroutines that it has started for them. gRPC closes one that it comes to after it was
// stopped.
const lastAccepted = 100 * time.Millisecond

// entering is how long serve has to get so far that it can be stopped. What it does first is not
// known, and some servers, like fasthttp's, serve forever if they were stopped before.
const entering = 100 * time.Millisecond

// acceptor is a listener that reports when Accept was first called and when it has failed, which
// is when everything that was accepted is known to the server.
type acceptor struct {
	net.Listener
	begin, end, close sync.Once
	accepting         chan struct{}
	failed            chan struct{}
	wrap              func(net.Conn) net.Conn // or nil
}

func newAcceptor(l net.Listener) *acceptor {
	return &acceptor{Listener: l, accepting: make(chan struct{}), failed: make(chan struct{})}
}

func (a *acceptor) Accept() (net.Conn, error) {
	a.begin.Do(func() { close(a.accepting) })
	conn, err := a.Listener.Accept()
	if errors.Is(err, net.ErrClosed) {
		a.ended()
	}
	if err == nil && a.wrap != nil {
		conn = a.wrap(conn)
	}
	return conn, err
}

// Close can be called by the group and by the server.
func (a *acceptor) Close() (err error) {
	a.close.Do(func() { err = a.Listener.Close() })
	return err
}

// ended notes that Accept will not be called again.
func (a *acceptor) ended() { a.end.Do(func() { close(a.failed) }) }

// waitClosed returns when Accept has failed after Close. It reports false if Accept is stuck.
func (a *acceptor) waitClosed(ctx context.Context) bool {
	stuck := time.NewTimer(stuckAccept)
	defer stuck.Stop()
	select {
	case <-a.failed:
		return true
	case <-stuck.C:
	case <-ctx.Done():
	}
	return false
}

// funcServer is a server of which only two functions are known, and at most the listener.
type funcServer struct {
	acceptor *acceptor // or nil
	run      func() error
	stop     func(context.Context) error // or nil
	begun    time.Time                   // when serve was called; read it when started is closed
	started  chan struct{}
	ended    chan struct{} // closed when run has returned
	err      error         // what run returned after stopping; read it when ended is closed
	drained  atomic.Bool
}

func newFuncServer(a *acceptor, run func() error, stop func(context.Context) error) *funcServer {
	return &funcServer{acceptor: a, run: run, stop: stop, started: make(chan struct{}), ended: make(chan struct{})}
}

func (s *funcServer) serving() <-chan struct{} {
	if s.acceptor != nil {
		return s.acceptor.accepting
	}
	return s.started
}

func (s *funcServer) serve() error {
	s.begun = time.Now()
	close(s.started)
	err := s.run()
	if s.acceptor != nil {
		s.acceptor.ended()
	}
	s.err = err
	close(s.ended)
	return err
}

func (s *funcServer) prepare() {}

func (s *funcServer) beginDrain() {}

func (s *funcServer) stopAccepting() {
	if s.acceptor != nil {
		s.acceptor.Close()
	}
}

func (s *funcServer) drain(ctx context.Context) error {
	defer s.drained.Store(true)
	<-s.started
	time.Sleep(time.Until(s.begun.Add(entering)))
	if s.acceptor != nil {
		s.acceptor.waitClosed(ctx)
	}
	var err error
	if s.stop != nil {
		if s.acceptor != nil {
			time.Sleep(lastAccepted)
		}
		err = s.stop(ctx)
	}
	select {
	case <-s.ended:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

func (s *funcServer) abort() {}

func (s *funcServer) failure() error {
	select {
	case <-s.ended:
		return s.err
	default:
		return nil
	}
}

func (s *funcServer) pending() string {
	if s.drained.Load() {
		return ""
	}
	return "the server to stop"
}
