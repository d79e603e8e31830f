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

	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/status"
	"github.com/start-server/start-server/internal/supervisor"
)

// Control controls a running superdaemon, this one or Perl's, which is identified by the files that
// it writes.
type Control struct {
	PIDFile    string
	StatusFile string // for Restart; for Stop and Show, to find the workers of a killed superdaemon
	// SignalOnTERM is the signal of Stop to workers that have no superdaemon any more; "" is TERM.
	SignalOnTERM string

	// StatusJSON is for Restart, to learn that a restart was given up, and why, and for Show: on systems
	// other than Linux, and of a superdaemon of another user; "" for none.
	StatusJSON string
	Timeout    time.Duration // of Restart; 0 is none
	Progress   io.Writer     // a terminal on which Restart shows its progress; nil for none
	Colour     bool          // of Show
}

// pollStatus is the time between two readings of the status file while waiting for a restart.
const pollStatus = 50 * time.Millisecond

// Stop sends TERM to the superdaemon and returns when it and every worker are gone. It writes the
// line that the original prints to w. If the pid file does not hold the pid of a superdaemon that
// has it locked, that is an error and no process is signalled, unless StatusFile names workers that
// the superdaemon left behind when it was killed.
func (c Control) Stop(ctx context.Context, w io.Writer) error {
	if c.PIDFile == "" {
		return errors.New("--stop option requires --pid-file to be set as well")
	}
	p, err := c.superdaemon()
	if err != nil {
		return c.stopWithout(ctx, w, err)
	}
	defer p.Close()
	fmt.Fprintln(w, lines.Stopping(os.Getpid(), p.PID))
	if err := p.Signal(ctx, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, pidfile.ErrEnded) {
		return fmt.Errorf("send TERM to the superdaemon %d: %w", p.PID, err)
	}
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("wait for the superdaemon %d to stop: %w", p.PID, err)
	}
	if _, err := c.superdaemon(); errors.Is(err, pidfile.ErrNotRunning) { // it was killed meanwhile
		_, err = c.stopLeft(ctx, w)
		return err
	}
	return nil
}

// Restart sends HUP to the superdaemon and returns when one worker is left, which was started after
// the call: a start that was under way before does not count. It returns an error if the
// superdaemon gives the restart up, if it ends, or after the timeout.
func (c Control) Restart(ctx context.Context) error {
	if c.PIDFile == "" || c.StatusFile == "" {
		return errors.New("--restart option requires --pid-file and --status-file to be set as well")
	}
	p, err := c.superdaemon()
	if err != nil {
		return err
	}
	defer p.Close()
	before, err := status.Read(c.StatusFile)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("send HUP to the superdaemon %d: %w", p.PID, err)
	}
	requested := request{generation: newest(before)}
	if requested.lastRestart, err = c.lastRestartOf(ctx, p); err != nil {
		return err
	}
	requested.number = requested.lastRestart().Number
	requested.setMoment()
	if err := p.Signal(ctx, unix.SIGHUP); err != nil {
		return fmt.Errorf("send HUP to the superdaemon %d: %w", p.PID, err)
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	progress := &progress{to: c.Progress, since: time.Now()}
	defer progress.end()
	return c.await(ctx, p, requested, progress)
}

// request is the state when a restart was requested, to distinguish its outcome from that of an
// earlier one.
type request struct {
	generation int    // of the newest worker that had started
	number     int    // of the latest restart then
	tick       uint64 // when it was requested, see process.StartTick
	ticks      bool   // tick is known

	lastRestart func() status.Restart // returns the latest restart; its number is 0 if none is known
}

// setMoment records the time of the request. It returns in the next tick, so that every worker that
// is started afterwards was started in a later one.
func (r *request) setMoment() {
	r.tick, r.ticks = process.CurrentTick()
	for now := r.tick; r.ticks && now == r.tick; now, _ = process.CurrentTick() {
		time.Sleep(time.Millisecond)
	}
}

// satisfiedBy reports whether the restart is over with these workers: one is left, which was
// started after the request. If the time is unknown, any newer one counts, as for the original.
func (r *request) satisfiedBy(workers []status.Worker) bool {
	if len(workers) != 1 || workers[0].Generation <= r.generation {
		return false
	}
	started, ok := process.StartTick(workers[0].PID)
	return !r.ticks || !ok || started > r.tick
}

// lastRestartOf returns a function that reads the latest restart, in StatusJSON or from the
// superdaemon itself. If that cannot be read now (Perl's, another system), it always returns none:
// the first restart that is read later may be an earlier one.
func (c Control) lastRestartOf(ctx context.Context, p *pidfile.Process) (func() status.Restart, error) {
	read := func() (status.Report, error) { return status.ReadPublished(p.PID) }
	if c.StatusJSON != "" {
		read = func() (status.Report, error) { return status.ReadReport(c.StatusJSON) }
	}
	err := p.Undisturbed(ctx, func() error {
		_, err := read()
		return err
	})
	if err != nil && c.StatusJSON != "" {
		return nil, err
	}
	known := err == nil
	return func() status.Restart {
		// After an error: the superdaemon is being upgraded, or will write the file again.
		if report, err := read(); known && err == nil && report.LastRestart != nil {
			return *report.LastRestart
		}
		return status.Restart{}
	}, nil
}

// givenUp returns an error that contains the reason if the restart was given up, and nil otherwise.
func (r *request) givenUp(last status.Restart) error {
	if last.Number <= r.number || last.Result != string(supervisor.GivenUp) {
		return nil
	}
	return fmt.Errorf("the restart was given up after %s: generation %d: %s",
		lines.Count(last.Attempts, "failed attempt"), last.Generation, last.Reason)
}

// await waits until the request is satisfied or given up.
func (c Control) await(ctx context.Context, p *pidfile.Process, requested request, progress *progress) error {
	tick := time.NewTicker(pollStatus)
	defer tick.Stop()
	for {
		workers, err := status.Read(c.StatusFile)
		if err == nil && requested.satisfiedBy(workers) {
			return nil
		}
		last := requested.lastRestart()
		if err := requested.givenUp(last); err != nil {
			return err
		}
		// The status was read before this: a superdaemon that has just ended may have finished the
		// restart.
		if gone, goneErr := p.Gone(); gone || goneErr != nil {
			return errors.Join(fmt.Errorf("the superdaemon %d has ended before the restart was over", p.PID), goneErr)
		}
		waitingFor := requested.awaits(workers, last)
		progress.show(waitingFor)
		select {
		case <-ctx.Done():
			return fmt.Errorf("the restart is not over after %s secs: %s", lines.Seconds(progress.elapsed()), waitingFor)
		case <-tick.C:
		}
	}
}

// superdaemon returns the superdaemon that holds the pid file.
func (c Control) superdaemon() (*pidfile.Process, error) {
	p, err := pidfile.Holder(c.PIDFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noPIDFileError{c.PIDFile}
	}
	return p, err
}

// noPIDFileError is an fs.ErrNotExist with a more helpful text.
type noPIDFileError struct{ path string }

func (e noPIDFileError) Error() string {
	return fmt.Sprintf("pid file %q does not exist; is start_server running?", e.path)
}

func (e noPIDFileError) Is(target error) bool { return target == fs.ErrNotExist }

func newest(workers []status.Worker) (generation int) {
	for _, w := range workers {
		generation = max(generation, w.Generation)
	}
	return generation
}

// awaits describes what the restart waits for.
func (r *request) awaits(workers []status.Worker, last status.Restart) string {
	if newest(workers) <= r.generation || len(workers) == 1 { // the only worker is an old one
		next := max(newest(workers), r.generation) + 1
		waitingFor := fmt.Sprintf("waiting for generation %d or later to start", next)
		if last.Number > r.number && last.Reason != "" {
			waitingFor += fmt.Sprintf(", an attempt has failed: %s", last.Reason)
		}
		return waitingFor
	}
	var old []int
	for _, w := range workers {
		if w.Generation != newest(workers) {
			old = append(old, w.PID)
		}
	}
	return fmt.Sprintf("generation %d has started, waiting for old workers to finish:%s", newest(workers), lines.PIDs(old))
}

// progress is a line on a terminal that is overwritten when it changes.
type progress struct {
	to    io.Writer
	since time.Time
	shown string
}

func (p *progress) elapsed() time.Duration { return time.Since(p.since).Truncate(time.Second) }

// show shows the line with the time in seconds.
func (p *progress) show(waitingFor string) {
	line := fmt.Sprintf("%s (%s secs)", waitingFor, lines.Seconds(p.elapsed()))
	if p.to != nil && line != p.shown {
		fmt.Fprint(p.to, "\r\033[K"+line)
		p.shown = line
	}
}

func (p *progress) end() {
	if p.to != nil {
		fmt.Fprint(p.to, "\r\033[K")
	}
}
