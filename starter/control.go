package starter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/statusfile"
)

// Control names a superdaemon that runs, Perl's or ours, by the files that it
// writes.
type Control struct {
	PIDFile    string
	StatusFile string        // for Restart
	Timeout    time.Duration // of Restart; 0 is none
	Progress   io.Writer     // a terminal to show on what Restart waits for; nil for none
}

// pollStatus is how often the status file is read while a restart is waited for.
const pollStatus = 50 * time.Millisecond

// Stop sends TERM and returns when the superdaemon is gone. It is an error when
// the pid file does not hold the pid of a superdaemon that has it locked: then nobody is
// signalled.
func (c Control) Stop(words io.Writer) error {
	if c.PIDFile == "" {
		return errors.New("--stop option requires --pid-file to be set as well")
	}
	p, err := c.superdaemon()
	if err != nil {
		return err
	}
	defer p.Close()
	fmt.Fprintln(words, msgStopping(os.Getpid(), p.PID))
	if err := unix.Kill(p.PID, unix.SIGTERM); err != nil {
		return fmt.Errorf("send TERM to the superdaemon %d: %w", p.PID, err)
	}
	return p.Wait()
}

// Restart sends HUP and returns when one worker is left and it is newer than
// those before. It is an error when the superdaemon goes away, or the timeout passes.
func (c Control) Restart(ctx context.Context) error {
	if c.PIDFile == "" || c.StatusFile == "" {
		return errors.New("--restart option requires --pid-file and --status-file to be set as well")
	}
	p, err := c.superdaemon()
	if err != nil {
		return err
	}
	defer p.Close()
	before, err := statusfile.Read(c.StatusFile)
	if err != nil {
		return err
	}
	if err := unix.Kill(p.PID, unix.SIGHUP); err != nil {
		return fmt.Errorf("send HUP to the superdaemon %d: %w", p.PID, err)
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	progress := progress{to: c.Progress, since: time.Now()}
	defer progress.end()
	return c.await(ctx, p, newest(before), progress)
}

// await waits until one worker is left and is newer than a generation.
func (c Control) await(ctx context.Context, p *pidfile.Process, generation int, progress progress) error {
	tick := time.NewTicker(pollStatus)
	defer tick.Stop()
	for {
		workers, err := statusfile.Read(c.StatusFile)
		if err == nil && len(workers) == 1 && workers[0].Generation > generation {
			return nil
		}
		// The status is read before: who has just ended may have finished the restart.
		if gone, goneErr := p.Gone(); gone || goneErr != nil {
			return errors.Join(fmt.Errorf("the superdaemon %d has ended before the restart was over", p.PID), goneErr)
		}
		progress.show(workers, generation)
		select {
		case <-ctx.Done():
			return fmt.Errorf("the restart is not over after %s secs: %s", seconds(progress.elapsed()), awaited(workers, generation))
		case <-tick.C:
		}
	}
}

// superdaemon is the one that holds the pid file.
func (c Control) superdaemon() (*pidfile.Process, error) {
	p, err := pidfile.Holder(c.PIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pid file %q does not exist; is start_server running?", c.PIDFile)
	}
	return p, err
}

func newest(workers []statusfile.Worker) (generation int) {
	for _, w := range workers {
		generation = max(generation, w.Generation)
	}
	return generation
}

// awaited says what a restart waits for.
func awaited(workers []statusfile.Worker, generation int) string {
	if newest(workers) <= generation {
		return fmt.Sprintf("waiting for generation %d or later to start", generation+1)
	}
	var old []int
	for _, w := range workers {
		if w.Generation != newest(workers) {
			old = append(old, w.PID)
		}
	}
	return fmt.Sprintf("generation %d has started, waiting for old workers to finish:%s", newest(workers), joinPIDs(old))
}

// progress is a line on a terminal that is written over and over.
type progress struct {
	to    io.Writer
	since time.Time
}

func (p progress) elapsed() time.Duration { return time.Since(p.since).Truncate(time.Second) }

func (p progress) show(workers []statusfile.Worker, generation int) {
	if p.to != nil {
		fmt.Fprintf(p.to, "\r\033[K%s (%s secs)", awaited(workers, generation), seconds(p.elapsed()))
	}
}

func (p progress) end() {
	if p.to != nil {
		fmt.Fprint(p.to, "\r\033[K")
	}
}
