package starter

import (
	"os"
	"time"

	"github.com/start-server/start-server/internal/status"
)

// report returns the JSON status.
func (s *supervisor) report(pid int, version string) status.Report {
	r := status.Report{
		Superdaemon: status.Superdaemon{PID: pid, Version: version, Started: s.FirstStep, Phase: s.phaseWord()},
		Workers:     []status.WorkerReport{},
		LastRestart: s.Restart.report(s.FirstStep),
	}
	if f := s.Failed; f.Count > 0 {
		r.FailedAttempts = &status.FailedAttempts{Count: f.Count, Reason: f.Reason}
	}
	for _, w := range s.workers() {
		if !w.Dead {
			r.Workers = append(r.Workers, w.report(w == s.Candidate))
		}
	}
	return r
}

func (s *supervisor) phaseWord() string {
	if s.StopAt > 0 {
		return "stopping"
	}
	return [...]string{starting: "starting", running: "running", delaying: "delaying", stopping: "stopping", stopped: "stopping"}[s.Phase]
}

func (w *worker) report(candidate bool) status.WorkerReport {
	state := "serving"
	switch {
	case w.StopSent:
		state = "stopping"
	case candidate:
		state = "starting"
	}
	return status.WorkerReport{PID: w.PID, Generation: w.Generation, State: state, Since: w.Since, Status: w.StatusText, Missing: w.Missing}
}

// report returns the restart in the form of the JSON status, nil for the first start. The clock of
// the supervisor was 0 when the superdaemon began.
func (r restart) report(began time.Time) *status.Restart {
	if r.Number == 0 {
		return nil
	}
	report := &status.Restart{Number: r.Number, Result: string(r.Result), Generation: r.Generation, Attempts: r.Attempts, Reason: r.Reason}
	if r.Result != inProgress {
		seconds := (r.EndedAt - r.BeganAt).Truncate(time.Millisecond).Seconds()
		report.Duration, report.Ended = &seconds, status.Timestamp(began.Add(r.EndedAt))
	}
	return report
}

// report returns the JSON status, with what the supervisor does not know.
func (d *superdaemon) report() status.Report {
	r := d.loop.report(os.Getpid(), d.config.Version)
	c := d.config
	r.Superdaemon.Options = status.Options{
		Interval: c.Interval.Seconds(), ReadyTimeout: c.ReadyTimeout.Seconds(), AcceptTimeout: c.AcceptTimeout.Seconds(),
		KillTimeout: c.KillTimeout.Seconds(), LogFile: c.LogFile,
	}
	for i := range r.Workers {
		r.Workers[i].Adopted = d.workers.adopted.processes[r.Workers[i].PID] != nil
	}
	r.Workers = d.workers.copies.Expand(r.Workers)
	return r
}
