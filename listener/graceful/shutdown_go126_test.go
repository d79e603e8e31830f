//go:build !go1.27

package graceful

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Functions are begun at once, while a request is under way, and waited for.
func TestShutdownFunctionsAreWaitedFor(t *testing.T) {
	begun, leave := make(chan struct{}), make(chan struct{})
	var done atomic.Bool
	g := newGate()
	srv := &http.Server{Handler: g}
	srv.RegisterOnShutdown(func() {
		close(begun)
		<-leave
		done.Store(true)
	})
	s := start(t, srv, time.Hour)
	c := s.connect()
	c.send("/slow")
	receive(t, g.entered)
	s.term()
	receive(t, begun)
	close(g.leave)
	c.want("slow", true)
	time.AfterFunc(3*pollInterval, func() { close(leave) })
	s.wantEnd()
	if !done.Load() {
		t.Error("the function was not waited for")
	}
}

// None is lost or run twice that a handler registers when the drain begins, under the race detector.
func TestShutdownFunctionsRegisteredMeanwhile(t *testing.T) {
	const each, handlers = 100, 4
	var srv http.Server
	var run atomic.Int32
	var registering sync.WaitGroup
	for range handlers {
		registering.Go(func() {
			for range each {
				srv.RegisterOnShutdown(func() { run.Add(1) })
			}
		})
	}
	var taken []func()
	for range each {
		taken = append(taken, takeShutdownFuncs(&srv)...)
	}
	registering.Wait()
	taken = append(taken, takeShutdownFuncs(&srv)...)
	for _, f := range taken {
		f()
	}
	if n := run.Load(); n != each*handlers || len(taken) != each*handlers {
		t.Errorf("%d functions, %d of the handlers, instead of %d", len(taken), n, each*handlers)
	}
}
