package starter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/signame"
)

// pollLeft is the time between two checks whether a worker without a superdaemon has ended.
const pollLeft = 10 * time.Millisecond

// stopWithout stops the workers that a superdaemon left when it was killed. err is the reason that
// there is no superdaemon to stop. Only a pid file that is there and not locked says that it is
// gone. Otherwise, or if there are no such workers, it returns err.
func (c Control) stopWithout(ctx context.Context, w io.Writer, err error) error {
	if !errors.Is(err, pidfile.ErrNotRunning) {
		return err
	}
	if c.StatusFile == "" {
		return fmt.Errorf("%w; workers that it left keep running (\"ps -e\" lists them): "+
			"with --status-file, --stop stops those too", err)
	}
	stopped, leftErr := c.stopLeft(ctx, w)
	if leftErr != nil || stopped == 0 {
		return cmp.Or(leftErr, err)
	}
	return nil
}

// stopLeft signals the workers that the status file names, and that have no superdaemon any more,
// to stop, waits for them and removes the files that the superdaemon left. It returns their number.
func (c Control) stopLeft(ctx context.Context, w io.Writer) (int, error) {
	sig, err := signame.Parse(cmp.Or(c.SignalOnTERM, "TERM"))
	if err != nil {
		return 0, option("signal-on-term", err)
	}
	finder := orphan.NewFinder(c.StatusFile)
	finder.AdoptNamed()
	left := finder.Workers()
	for _, worker := range left {
		fmt.Fprintln(w, lines.StoppingLeft(os.Getpid(), worker.PID))
		if err := worker.Signal(sig); err != nil && !worker.Exited() {
			return 0, fmt.Errorf("send %s to worker %d: %w", signame.Of(sig), worker.PID, err)
		}
	}
	for _, worker := range left {
		if err := waitLeft(ctx, worker); err != nil {
			return 0, err
		}
	}
	if len(left) > 0 {
		c.removeLeft()
	}
	return len(left), nil
}

func waitLeft(ctx context.Context, worker orphan.Worker) error {
	tick := time.NewTicker(pollLeft)
	defer tick.Stop()
	for !worker.Exited() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for worker %d to stop: %w", worker.PID, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// removeLeft removes the files, unless another superdaemon uses them now.
func (c Control) removeLeft() {
	if file, err := pidfile.Create(c.PIDFile, os.Getpid()); err == nil {
		_ = os.Remove(c.StatusFile)
		_ = file.Remove()
	}
}
