//go:build go1.27

package graceful

import (
	"context"
	"net/http"
)

// shutdownFuncs runs what was given to http.Server.RegisterOnShutdown. Only Shutdown can, which
// drops requests that it finds unread, and does not wait for the functions. So it is called when
// nothing is left for it to drop.
type shutdownFuncs struct{ done chan error }

func (s *shutdownFuncs) running() int { return 0 }

func (s *shutdownFuncs) run(*http.Server) {}

// settled is called when all connections that are left are at work.
func (s *shutdownFuncs) settled(ctx context.Context, srv *http.Server) {
	if s.done == nil {
		s.done = make(chan error, 1)
		go func() { s.done <- srv.Shutdown(ctx) }()
	}
}

// shutdown is called when no connection is left.
func (s *shutdownFuncs) shutdown(ctx context.Context, srv *http.Server) error {
	s.settled(ctx, srv)
	return <-s.done
}
