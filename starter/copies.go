package starter

import (
	"errors"

	"github.com/start-server/start-server/internal/copies"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/supervisor"
)

// OnCopy handles the report of a worker of several processes on one of them.
func (d *superdaemon) OnCopy(worker int, report string) {
	before, now, err := d.workers.OnCopy(worker, report)
	if err != nil { // some other process has sent it
		return
	}
	if now.Unseen != "" {
		d.loop.OnUnseen(worker, now.Unseen)
	} else if missing := d.workers.MissingOfCopies(worker); len(missing) > 0 {
		d.loop.OnMissing(worker, missing)
	}
	if now.State == before.State {
		return
	}
	if line := d.copyLine(before, now); line != "" {
		d.Log(lines.Numbered(line, now.Number))
	}
	for _, w := range d.loop.Workers() {
		if w.PID == worker {
			d.emitCopy(w, before, now)
		}
	}
}

// copyLine returns the log line for a copy whose state has changed, or "".
func (d *superdaemon) copyLine(before, now copies.Process) string {
	switch {
	case now.State == copies.Starting:
		return lines.StartingWorker(now.PID)
	case now.State == copies.Stopping && now.Late:
		r := d.config.rules()
		if r.Readiness == supervisor.ByAccepting {
			return lines.NotAccepting(now.PID, now.Missing, r.StartTimeout, r.SignalOnTERM.Name)
		}
		return lines.NotReady(now.PID, r.StartTimeout, r.SignalOnTERM.Name)
	case now.State == copies.Ended && now.Error != "":
		return lines.NoWorker(errors.New(now.Error))
	case now.State == copies.Ended && before.State == copies.Starting:
		return lines.FailedToStart(now.PID, now.Status)
	case now.State == copies.Ended && before.State == copies.Serving:
		return lines.DiedUnexpectedly(now.PID, now.Status)
	}
	return ""
}

func (d *superdaemon) emitCopy(w *supervisor.Worker, before, now copies.Process) {
	switch {
	case now.State == copies.Starting:
		d.events.Add(ProcessStarted{now.PID, w.PID, w.Generation, now.Number})
	case now.State == copies.Serving:
		d.events.Add(ProcessReady{now.PID, w.PID, w.Generation, now.Number})
	case now.State == copies.Ended && now.PID > 0:
		d.events.Add(ProcessDied{now.PID, w.PID, w.Generation, now.Number, now.Status, w.StopSent || before.State == copies.Stopping})
	}
}
