package starter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/status"
)

// Show writes the state of the superdaemon and its workers to w, for a person. It returns an error
// with the reason if no worker serves or no superdaemon is running. Of a superdaemon that does not
// say more (Perl's, that of another user, or on systems other than Linux) it shows what StatusJSON or
// StatusFile has.
func (c Control) Show(ctx context.Context, w io.Writer) error {
	if c.PIDFile == "" {
		return errors.New("--show option requires --pid-file to be set as well")
	}
	p, err := c.superdaemon()
	if errors.Is(err, pidfile.ErrNotRunning) {
		return c.showLeft(w, err)
	}
	if err != nil {
		return err
	}
	defer p.Close()
	report, err := c.report(ctx, p)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, report.Text(time.Now(), c.Colour)); err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	return report.NotServing()
}

// report returns the state of the superdaemon.
func (c Control) report(ctx context.Context, p *pidfile.Process) (r status.Report, err error) {
	err = p.Undisturbed(ctx, func() (err error) {
		r, err = status.ReadPublished(p.PID)
		return err
	})
	switch {
	case err == nil:
		return r, nil
	case c.StatusJSON != "":
		return status.ReadReport(c.StatusJSON)
	case c.StatusFile == "":
		return r, fmt.Errorf("start_server (pid %d) is running, but its state cannot be read: %w; with --status-file, --show lists its workers", p.PID, err)
	}
	workers, err := status.Read(c.StatusFile)
	r.Superdaemon = status.Superdaemon{PID: p.PID, Started: startTime(p.PID)}
	for _, w := range workers {
		state := "serving"
		if w.Generation < newest(workers) {
			state = "old"
		}
		r.Workers = append(r.Workers, status.WorkerReport{PID: w.PID, Generation: w.Generation, State: state, Since: startTime(w.PID)})
	}
	return r, err
}

// startTime returns when a process was started, the zero time if that is not known.
func startTime(pid int) time.Time {
	now, ok := process.CurrentTick()
	started, known := process.StartTick(pid)
	if !ok || !known || started > now {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(now-started) * 10 * time.Millisecond)
}

// showLeft shows the workers that the superdaemon left when it was killed. It returns err, the
// reason that none is running.
func (c Control) showLeft(w io.Writer, err error) error {
	if c.StatusFile == "" {
		return fmt.Errorf("%w; workers that it left may keep running: with --status-file, --show lists them", err)
	}
	finder := orphan.NewFinder(c.StatusFile)
	finder.AdoptNamed()
	var left []status.WorkerReport
	for _, l := range finder.Workers() {
		unix.Close(l.Descriptor)
		left = append(left, status.WorkerReport{PID: l.PID, Generation: l.Generation, State: "left", Since: startTime(l.PID)})
	}
	_, writeErr := io.WriteString(w, status.LeftText(left, c.PIDFile, c.StatusFile, time.Now(), c.Colour))
	return errors.Join(err, writeErr)
}
