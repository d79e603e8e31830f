package graceful

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/start-server/start-server/listener"
)

const (
	// defaultGrace is long enough for clients at work, and short beside the 10 seconds after which
	// the most impatient service managers kill.
	defaultGrace = 5 * time.Second
	logInterval  = 10 * time.Second
	// interruptTime is how long start_server has, after a terminal's Ctrl-C, to send TERM.
	interruptTime = time.Second
)

// Group runs all servers of a process: HTTP, HTTPS and anything else that has a function that
// serves and one that stops it. It reports READY when all of them serve, stops them together, and
// returns when the last one has ended. Set the fields and add the servers before calling
// [Group.Run]; the zero value is an empty group. It must not be copied.
type Group struct {
	// Grace is how long a kept-alive HTTP connection is left open for a further request, counted
	// from its last answer (or from when it was accepted, or from when the last bytes of a further
	// request came), once the group drains. 0 means 5 seconds, a negative value none.
	Grace time.Duration

	// DrainDelay is how long the group keeps accepting after it has begun to drain, so that load
	// balancers, which see the health check fail (see [Draining]), stop sending connections. Under
	// start_server another generation accepts from the same sockets, and 0 is right.
	DrainDelay time.Duration

	// DrainTimeout limits how long the group drains, DrainDelay included. HTTP connections that are
	// left then are closed, hijacked ones included, and Run returns an error that wraps
	// [context.DeadlineExceeded]. 0 means no limit; start_server's --kill-timeout also sets one.
	DrainTimeout time.Duration

	// BeforeReady, if not nil, is called when all servers serve, and READY is reported only after
	// it has returned. It can send requests to the servers, to warm them up. An error stops the
	// group and is returned by Run. The context ends when the group begins to drain.
	BeforeReady func(context.Context) error

	// Logf, if not nil, is called when the group begins to drain and every 10 seconds from then on,
	// with a line that names what is waited for. log.Printf fits. Warnings go there too, or to
	// log.Printf if it is nil.
	Logf func(format string, args ...any)

	// Signals stop the group as TERM does, besides TERM and, under start_server, QUIT: what
	// start_server's --signal-on-hup and --signal-on-term name. With os.Interrupt among them a
	// second one no longer closes the connections.
	Signals []os.Signal

	members  []*member
	err      error // of the first Add that failed
	once     sync.Once
	draining chan struct{}
	ran      atomic.Bool
	warned   atomic.Bool
	closing  atomic.Bool // every HTTP answer from now on is the last of its connection
}

// server is what the group needs of a member. The methods are called in this order; abort and
// pending at any time after serve.
type server interface {
	prepare()
	serving() <-chan struct{}    // closed when serve has got as far as accepting
	serve() error                // returns when it has ended, or no longer accepts
	beginDrain()                 // does not wait
	stopAccepting()              // does not wait
	drain(context.Context) error // waits until all that was accepted is done
	abort()                      // closes all connections
	pending() string             // what drain waits for, empty if nothing
	failure() error              // after drain: what serve has returned, unless the stop explains it
}

type member struct {
	server
	name string
}

// Add adds a server of any kind. Run calls serve, which returns when the server has ended, and, to
// stop it, stop, which returns when nothing is left to do; both must return before Run does. The
// context of stop ends when DrainTimeout is over. The server counts as serving from when serve is
// called, which is at least 100 milliseconds before stop is. After stop was called, serve may return
// any error that wraps [net.ErrClosed] or [http.ErrServerClosed], or ends in "closed" or "canceled";
// other errors are returned by Run.
func (g *Group) Add(serve func() error, stop func(context.Context) error) {
	g.add(fmt.Sprintf("server %d", len(g.members)+1), newFuncServer(nil, serve, stop))
}

// AddListener adds a server that accepts from l. The group closes l first, and calls stop, which
// may be nil, shortly after Accept has failed, when everything that was accepted is known to the
// server. This order matters to servers that drop a connection that they come to while they stop,
// like gRPC's. Serve must not return before all connections have ended, unless stop waits for them.
func (g *Group) AddListener(l net.Listener, serve func(net.Listener) error, stop func(context.Context) error) {
	a := newAcceptor(l)
	g.add(l.Addr().String(), newFuncServer(a, func() error { return serve(a) }, stop))
}

// AddHTTP adds a server for HTTP. Without listeners it serves the socket that start_server passed
// for srv.Addr (":http" if empty) or, if that names none of them, those that no other server of the
// process serves; Run returns an error if none is left. By hand it listens on srv.Addr. The fields
// of srv are read when Run is called.
func (g *Group) AddHTTP(srv *http.Server, listeners ...net.Listener) {
	g.addHTTP(srv, listeners, false)
}

// AddHTTPS adds a server for HTTPS, HTTP/2 included, like [Group.AddHTTP], with ":https" for an
// empty srv.Addr. The files are as for [http.Server.ListenAndServeTLS]: both may be empty if
// srv.TLSConfig has the certificate.
func (g *Group) AddHTTPS(srv *http.Server, certFile, keyFile string, listeners ...net.Listener) {
	if err := loadCertificate(srv, certFile, keyFile); err != nil {
		g.fail(err)
	}
	g.addHTTP(srv, listeners, true)
}

func (g *Group) addHTTP(srv *http.Server, listeners []net.Listener, secure bool) {
	name := ""
	if len(listeners) > 0 {
		name = listeners[0].Addr().String()
	}
	g.add(name, newHTTPServer(g, srv, listeners, secure))
}

// listen opens the sockets of the servers for HTTP that have none.
func (g *Group) listen() (release func(), err error) {
	var without []*member
	var addrs []string
	for _, m := range g.members {
		if s, ok := m.server.(*httpServer); ok && len(s.acceptors) == 0 {
			without, addrs = append(without, m), append(addrs, s.srv.Addr)
		}
	}
	for i, m := range without {
		if len(without) > 1 && addrs[i] == "" {
			addrs[i] = m.server.(*httpServer).defaultAddr()
		}
	}
	listeners, release, err := claimed.listen(addrs...)
	if err != nil {
		return release, err
	}
	for i, m := range without {
		s := m.server.(*httpServer)
		if listeners[i] == nil {
			l, err := listener.Listen("tcp", cmp.Or(addrs[i], s.defaultAddr()))
			if err != nil {
				return release, err
			}
			listeners[i] = []net.Listener{l}
		}
		s.acceptOn(listeners[i])
		m.name = listeners[i][0].Addr().String()
	}
	return release, nil
}

func (g *Group) add(name string, s server) {
	g.members = append(g.members, &member{s, name})
}

func (g *Group) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

func (g *Group) grace() time.Duration {
	if g.Grace == 0 {
		return defaultGrace
	}
	return g.Grace
}

// Draining returns a channel that is closed when the group begins to drain: at a signal, at the end
// of Run's context, or when a server has failed. Handlers that never finish by themselves, like
// event streams, end then, and health checks fail from then on.
func (g *Group) Draining() <-chan struct{} {
	return g.drainingChannel()
}

func (g *Group) drainingChannel() chan struct{} {
	g.once.Do(func() { g.draining = make(chan struct{}) })
	return g.draining
}

// Run serves until SIGTERM arrives, the context ends or a server fails, then drains all servers and
// returns when the last one has ended: nil if nothing failed and everything that was accepted was
// answered. It can be called once.
//
// Further TERMs change nothing, also after Run has returned because of one, so that the rest of
// main is not cut short. SIGINT stops the group like TERM, except under start_server, which gets a
// Ctrl-C too and then sends TERM. A second SIGINT closes all connections, and Run returns an error.
func (g *Group) Run(ctx context.Context) error {
	if g.ran.Swap(true) {
		return errors.New("run: called twice")
	}
	if g.err == nil && len(g.members) == 0 {
		g.err = errors.New("run: no servers")
	}
	release := func() {}
	if g.err == nil {
		release, g.err = g.listen()
	}
	defer release()
	listener.UnsetEnv() // its error is that of listen
	if g.err != nil {
		for _, m := range g.members {
			m.stopAccepting()
		}
		return g.err
	}
	signals := notifySignals(g.Signals)
	defer signals.stop()
	return g.run(ctx, signals)
}

func (g *Group) run(ctx context.Context, signals *signals) error {
	for _, m := range g.members {
		m.prepare()
	}
	ended := make(chan outcome, len(g.members))
	for _, m := range g.members {
		go func() { ended <- outcome{m, m.serve()} }()
	}
	first, failure := g.serveUntilStopped(ctx, signals, ended)
	if g.DrainDelay <= 0 {
		g.closing.Store(true) // before handlers that wait for the drain answer
	}
	close(g.drainingChannel())
	later := []error{g.drain(signals)}
	for _, m := range g.members {
		if err := m.failure(); m != first && err != nil && !saysStopped(err) {
			later = append(later, err)
		}
	}
	if err := errors.Join(later...); err != nil {
		return errors.Join(failure, err)
	}
	return failure // as it is: http.ErrServerClosed is compared with ==
}

// saysStopped reports whether the error of a server that was stopped says no more than that. Those
// of cmux, for one, wrap no error that is known.
func saysStopped(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) ||
		strings.HasSuffix(err.Error(), "closed") || strings.HasSuffix(err.Error(), "canceled")
}

// outcome is what serve of a member has returned.
type outcome struct {
	member *member
	err    error
}

// serveUntilStopped returns the error of the server or hook that failed, if any did, and the server.
func (g *Group) serveUntilStopped(ctx context.Context, signals *signals, ended <-chan outcome) (*member, error) {
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- g.start(starting) }()
	var unfollowed <-chan time.Time
	for running := len(g.members); running > 0; {
		select {
		case err := <-started:
			if err != nil {
				return nil, err
			}
		case end := <-ended:
			running--
			if end.err != nil {
				return end.member, end.err
			}
		case <-signals.term:
			signals.keepTERM = true
			return nil, nil
		case <-signals.interrupt:
			if signals.interrupted() {
				return nil, nil
			}
			unfollowed = time.After(interruptTime)
		case <-unfollowed:
			g.warnSignal(os.Interrupt)
		case sig := <-signals.ignored:
			g.warnSignal(sig)
			signal.Stop(signals.ignored)
		case <-ctx.Done():
			return nil, nil
		}
	}
	return nil, nil
}

// start reports READY when all servers serve.
func (g *Group) start(ctx context.Context) error {
	for _, m := range g.members {
		select {
		case <-m.serving():
		case <-ctx.Done():
			return nil
		}
	}
	if g.BeforeReady != nil {
		if err := g.BeforeReady(ctx); err != nil {
			return fmt.Errorf("before ready: %w", err)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	if err := listener.Ready(); err != nil { // not a reason to stop: the server is able to serve
		g.warn("%v", err)
	}
	return nil
}

// warn logs what must not go unnoticed.
func (g *Group) warn(format string, args ...any) {
	logf := g.Logf
	if logf == nil {
		logf = log.Printf
	}
	logf(format, args...)
}

func (g *Group) warnSignal(sig os.Signal) {
	g.warn("%v does not stop the server: if start_server sends it for that, name it in Group.Signals", sig)
}

// warnHTTP2 logs, once, that HTTP/2 is served in a way that does not let the group write to it.
func (g *Group) warnHTTP2(addr net.Addr) {
	if !g.warned.Swap(true) {
		g.warn("HTTP/2 on %v: clients are not asked to go before connections end, so a restart can lose requests (%s; see HTTP/2 in the documentation of package graceful)",
			addr, runtime.Version())
	}
}

// drain stops all servers and returns when they have ended, the time is over, or SIGINT comes
// again.
func (g *Group) drain(signals *signals) error {
	ctx, cancel := context.WithCancel(context.Background())
	if g.DrainTimeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, g.DrainTimeout)
	}
	defer cancel()
	g.logPending("draining") // before clients act on what they are sent
	done := make(chan error, 1)
	go func() { done <- g.drainMembers(ctx) }()

	lines := time.NewTicker(logInterval)
	defer lines.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() == nil {
				return err
			}
		case <-lines.C:
			g.logPending("still draining")
		case <-signals.term: // a repeated one
		case <-signals.interrupt:
			if signals.repeated() {
				return g.abort("interrupted", context.Canceled)
			}
		case <-ctx.Done():
			return g.abort(fmt.Sprintf("drain timeout %v is over", g.DrainTimeout), ctx.Err())
		}
	}
}

func (g *Group) drainMembers(ctx context.Context) error {
	for _, m := range g.members {
		m.beginDrain()
	}
	if g.DrainDelay > 0 {
		select {
		case <-time.After(g.DrainDelay):
		case <-ctx.Done():
		}
	}
	g.closing.Store(true)
	for _, m := range g.members {
		m.stopAccepting()
	}
	drained := make(chan error)
	for _, m := range g.members {
		go func() { drained <- m.drain(ctx) }()
	}
	var errs []error
	for range g.members {
		errs = append(errs, <-drained)
	}
	return errors.Join(errs...)
}

// abort closes what is left.
func (g *Group) abort(why string, cause error) error {
	left := g.pending()
	for _, m := range g.members {
		m.stopAccepting()
		m.abort()
	}
	return fmt.Errorf("%s: closed with %s: %w", why, left, cause)
}

func (g *Group) logPending(what string) {
	if g.Logf != nil {
		g.Logf("%s, waiting for %s", what, g.pending())
	}
}

// pending names what is waited for, with the name of each server if there are several.
func (g *Group) pending() string {
	var parts []string
	for _, m := range g.members {
		part := m.pending()
		if part != "" && len(g.members) > 1 {
			part = m.name + ": " + part
		}
		if part != "" {
			parts = append(parts, part)
		}
	}
	if parts == nil {
		return "nothing"
	}
	return strings.Join(parts, "; ")
}
