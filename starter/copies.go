package starter

import (
	"errors"

	"github.com/start-server/start-server/internal/copies"
)

// onProcess handles the report of a worker of several processes on one of them.
func (d *superdaemon) onProcess(worker int, report string) {
	before, now, err := d.workers.copies.Update(worker, report)
	if err != nil { // some other process has sent it
		return
	}
	d.logProcess(before, now)
	if now.Unseen != "" {
		d.loop.onUnseen(worker, now.Unseen)
	} else if missing := d.workers.copies.Missing(worker); len(missing) > 0 {
		d.loop.onMissing(worker, missing)
	}
	for _, w := range d.loop.workers() {
		if w.PID == worker {
			d.emitProcess(w, before, now)
		}
	}
}

func (d *superdaemon) logProcess(before, now copies.Process) {
	line := ""
	switch {
	case now.State == before.State: // STATUS=
	case now.State == copies.Starting:
		line = msgStartingWorker(now.PID)
	case now.State == copies.Stopping && now.Late:
		timeout, sig := d.config.rules().startTimeout, d.config.rules().signalOnTERM.name
		if line = msgNotReady(now.PID, timeout, sig); d.config.AcceptTimeout > 0 {
			line = msgNotAccepting(now.PID, now.Missing, timeout, sig)
		}
	case now.State == copies.Ended && now.Error != "":
		line = msgNoWorker(errors.New(now.Error))
	case now.State == copies.Ended && before.State == copies.Starting:
		line = msgFailedToStart(now.PID, now.Status)
	case now.State == copies.Ended && before.State == copies.Serving:
		line = msgDiedUnexpectedly(now.PID, now.Status)
	}
	if line != "" {
		d.logLine(numbered(line, now.Number))
	}
}

func (d *superdaemon) emitProcess(w *worker, before, now copies.Process) {
	switch {
	case now.State == before.State:
	case now.State == copies.Starting:
		d.emit(ProcessStarted{now.PID, w.PID, w.Generation, now.Number})
	case now.State == copies.Serving:
		d.emit(ProcessReady{now.PID, w.PID, w.Generation, now.Number})
	case now.State == copies.Ended && now.PID > 0:
		d.emit(ProcessDied{now.PID, w.PID, w.Generation, now.Number, now.Status, w.StopSent || before.State == copies.Stopping})
	}
}
