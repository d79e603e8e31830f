package starter

import (
	"context"

	"github.com/start-server/start-server/internal/output"
)

// A Runner is a superdaemon in this process. Unlike the function Run it has a method to restart the
// workers.
type Runner struct {
	config  Config
	restart chan struct{}
}

// New returns a Runner for the Config. Call its Run to start it.
func New(c Config) *Runner {
	return &Runner{config: c, restart: make(chan struct{}, 1)}
}

// Run is like the function Run. Call it once.
func (r *Runner) Run(ctx context.Context) error { return run(ctx, r.config, r.restart) }

// Restart requests a restart, as a HUP does: a new worker is started, and the old ones are stopped
// when it has started. Restart does not wait; the event RestartSucceeded or RestartGivenUp reports
// the outcome. Requests made before the superdaemon acts on them count as one; those made before
// Run has started a worker are remembered. Any goroutine may call it.
func (r *Runner) Restart() {
	select {
	case r.restart <- struct{}{}:
	default: // one is waiting
	}
}

// keepOutput keeps standard output and error, and returns a function that restores them. It does
// nothing if Run does not change them.
func (c Config) keepOutput() (giveBack func(), err error) {
	if c.LogFile == "" {
		return func() {}, nil
	}
	return output.Keep()
}
