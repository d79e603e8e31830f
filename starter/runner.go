package starter

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
)

// A Runner is a superdaemon of this process. Unlike one that is started by Run it can be asked to restart
// without a signal.
type Runner struct {
	config  Config
	restart chan struct{}
}

// New returns a Runner, whose Run begins to supervise.
func New(c Config) *Runner {
	return &Runner{config: c, restart: make(chan struct{}, 1)}
}

// Run is like the function Run. Call it once.
func (r *Runner) Run(ctx context.Context) error { return run(ctx, r.config, r.restart) }

// Restart acts as a HUP does: a new worker is started, and the old ones are told to stop when it has
// started. It does not wait: RestartSucceeded or RestartGivenUp are the outcome. Several requests that
// come before the superdaemon acts on them are one, and before Run has started a worker they are
// remembered. Any goroutine may call it.
func (r *Runner) Restart() {
	select {
	case r.restart <- struct{}{}:
	default: // one is waiting
	}
}

// keepOutput keeps standard output and error open, and returns a function that makes them again what they
// are now. It does nothing if Run leaves them alone.
func keepOutput(c Config) (giveBack func(), err error) {
	if c.LogFile == "" {
		return func() {}, nil
	}
	var kept [2]int
	for i, fd := range []int{stdout, stderr} {
		if kept[i], err = saveOutput(fd, false); err != nil {
			return nil, err
		}
	}
	return func() {
		for i, fd := range []int{stdout, stderr} {
			_ = process.Dup2(kept[i], fd)
			unix.Close(kept[i])
		}
	}, nil
}
