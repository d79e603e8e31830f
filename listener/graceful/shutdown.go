package graceful

import (
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"unsafe"
)

// shutdownFuncs runs what was given to http.Server.RegisterOnShutdown when the drain begins, and
// knows when it has returned. Shutdown itself would run it when the connections are gone, which may
// be what the functions are for, and would not wait for it.
type shutdownFuncs struct{ count atomic.Int64 }

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

// takeShutdownFuncs takes the functions out of the server. There is no other way to them than the
// unexported field. With a net/http that has no such field nothing is taken, and so left to
// Shutdown.
func takeShutdownFuncs(srv *http.Server) []func() {
	srv.RegisterOnShutdown(func() {}) // locks, and so orders what follows after earlier calls
	field := reflect.ValueOf(srv).Elem().FieldByName("onShutdown")
	if !field.IsValid() || field.Type() != reflect.TypeFor[[]func()]() {
		return nil
	}
	registered := (*[]func())(unsafe.Pointer(field.UnsafeAddr()))
	taken := *registered
	*registered = nil
	return taken[:len(taken)-1] // all but the one from above
}

// closesHTTP2 reports whether f is the one that net/http or golang.org/x/net/http2 has registered
// for itself: it sends GOAWAY, which comes last.
func closesHTTP2(f func()) bool {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return strings.Contains(name, "http2") && strings.Contains(name, "startGracefulShutdown")
}
