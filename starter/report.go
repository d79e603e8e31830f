package starter

import (
	"os"
	"time"

	"github.com/start-server/start-server/internal/status"
	"github.com/start-server/start-server/internal/supervisor"
)

// report returns the JSON status.
func (d *superdaemon) report() status.Report {
	c, s := d.config, &d.loop.State
	r := status.Report{
		Superdaemon: status.Superdaemon{PID: os.Getpid(), Version: c.Version, Started: s.FirstStep, Phase: phaseWord(s)},
		Workers:     []status.WorkerReport{},
		LastRestart: reportRestart(s.Restart, s.FirstStep),
	}
	r.Superdaemon.Options = status.Options{
		Interval: c.Interval.Seconds(), ReadyTimeout: c.ReadyTimeout.Seconds(), AcceptTimeout: c.AcceptTimeout.Seconds(),
		KillTimeout: c.KillTimeout.Seconds(), LogFile: c.LogFile,
	}
	if f := s.Failed; f.Count > 0 {
		r.FailedAttempts = &status.FailedAttempts{Count: f.Count, Reason: f.Reason}
	}
	for _, w := range s.Workers() {
		if !w.Dead {
			r.Workers = append(r.Workers, status.WorkerReport{
				PID: w.PID, Generation: w.Generation, State: stateWord(w, w == s.Candidate), Since: w.Since, Status: w.StatusText,
				Missing: w.Missing, Adopted: d.workers.IsAdopted(w.PID),
			})
		}
	}
	r.Workers = d.workers.ExpandCopies(r.Workers)
	return r
}

func phaseWord(s *supervisor.State) string {
	if s.StopAt > 0 {
		return "stopping"
	}
	return [...]string{
		supervisor.Starting: "starting", supervisor.Running: "running", supervisor.Delaying: "delaying",
		supervisor.Stopping: "stopping", supervisor.Stopped: "stopping",
	}[s.Phase]
}

func stateWord(w *supervisor.Worker, candidate bool) string {
	switch {
	case w.StopSent:
		return "stopping"
	case candidate:
		return "starting"
	}
	return "serving"
}

// reportRestart returns a restart in the form of the JSON status, nil for the first start. The clock
// of the supervisor was 0 when the superdaemon began.
func reportRestart(r supervisor.Restart, began time.Time) *status.Restart {
	if r.Number == 0 {
		return nil
	}
	report := &status.Restart{Number: r.Number, Result: string(r.Result), Generation: r.Generation, Attempts: r.Attempts, Reason: r.Reason}
	if r.Result != supervisor.InProgress {
		seconds := (r.EndedAt - r.BeganAt).Truncate(time.Millisecond).Seconds()
		report.Duration, report.Ended = &seconds, status.Timestamp(began.Add(r.EndedAt))
	}
	return report
}
