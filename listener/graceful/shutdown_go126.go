//go:build !go1.27

package graceful

import (
	"context"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

// shutdownFuncs runs what was given to http.Server.RegisterOnShutdown when the drain begins, and
// knows when it has returned. Shutdown itself would run it when the connections are gone, which may
// be what the functions are for, and would not wait for it. This file goes when Go 1.26 is no longer
// supported.
type shutdownFuncs struct{ count atomic.Int64 }

func (s *shutdownFuncs) settled(context.Context, *http.Server) {}

func (s *shutdownFuncs) shutdown(ctx context.Context, srv *http.Server) error {
	return srv.Shutdown(ctx)
}

func (s *shutdownFuncs) running() int { return int(s.count.Load()) }

func (s *shutdownFuncs) run(srv *http.Server) {
	for _, f := range takeShutdownFuncs(srv) {
		if closesHTTP2(f) {
			srv.RegisterOnShutdown(f) // for Shutdown
			continue
		}
		s.count.Add(1)
		go func() {
			defer s.count.Add(-1)
			f()
		}()
	}
}

// takeShutdownFuncs takes the functions out of the server, with the lock under which others are
// registered meanwhile, which are left to Shutdown. There is no other way to them than the
// unexported fields. With a net/http that has no such fields nothing is taken.
func takeShutdownFuncs(srv *http.Server) []func() {
	registered, lock := field[[]func()](srv, "onShutdown"), field[sync.Mutex](srv, "mu")
	if registered == nil || lock == nil {
		return nil
	}
	lock.Lock()
	defer lock.Unlock()
	taken := *registered
	*registered = nil
	return taken
}

// field returns the field of the name, or nil if there is none of the type.
func field[T any](srv *http.Server, name string) *T {
	field := reflect.ValueOf(srv).Elem().FieldByName(name)
	if !field.IsValid() || field.Type() != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(unsafe.Pointer(field.UnsafeAddr()))
}

// closesHTTP2 reports whether f is the one that net/http or golang.org/x/net/http2 has registered
// for itself: it sends GOAWAY, which comes last.
func closesHTTP2(f func()) bool {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return strings.Contains(name, "http2") && strings.Contains(name, "startGracefulShutdown")
}
