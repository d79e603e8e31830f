package supervisor

import (
	"fmt"
	"slices"
	"time"

	"github.com/start-server/start-server/internal/lines"
)

// Restart is a restart by a HUP, by time or because a socket was replaced, or the first start, whose
// number is 0.
type Restart struct {
	Number     int           `json:"number"`
	Result     Result        `json:"result"`
	Attempts   int           `json:"attempts"`   // to start a worker for it
	Generation int           `json:"generation"` // of the latest of them
	Reason     string        `json:"reason"`     // why the latest of them failed, "" if none did
	BeganAt    time.Duration `json:"began_at"`
	EndedAt    time.Duration `json:"ended_at"`
}

// Result is the outcome of a restart, as in the JSON status.
type Result string

const (
	InProgress Result = "in progress"
	Succeeded  Result = "succeeded" // the new worker serves and the old ones were signalled to stop
	GivenUp    Result = "given up"  // after Rules.MaxAttempts
	Cancelled  Result = "cancelled" // by a stop
)

// beginRestart begins a restart. One that is under way becomes part of it.
func (s *Supervisor) beginRestart() {
	s.Restarting = true
	s.Restart = Restart{Number: s.Restart.Number + 1, Result: InProgress, BeganAt: s.now}
	s.out.Emit(RestartBegun{Number: s.Restart.Number})
}

// countAttempt counts an attempt if a restart is under way. A worker that replaces one which died
// while serving is not an attempt.
func (s *Supervisor) countAttempt() {
	if r := &s.Restart; r.Result == InProgress {
		r.Attempts++
		r.Generation = s.Generation
	}
}

// endRestart ends the restart that is under way, if one is.
func (s *Supervisor) endRestart(r Result) {
	restart := &s.Restart
	if restart.Result != InProgress {
		return
	}
	restart.Result, restart.EndedAt = r, s.now
	duration := restart.EndedAt - restart.BeganAt
	switch {
	case r == GivenUp:
		s.out.Emit(RestartGivenUp{restart.Number, restart.Generation, restart.Attempts, duration, restart.Reason})
	case r == Succeeded && restart.Number > 0:
		s.out.Emit(RestartSucceeded{restart.Number, restart.Generation, restart.Attempts, duration})
	}
}

// startFailed emits an event for a worker that failed to start, with pid 0 if there was no process,
// and calls attemptFailed.
func (s *Supervisor) startFailed(pid int, how string) bool {
	s.out.Emit(WorkerFailed{PID: pid, Generation: s.Generation, Reason: how})
	return s.attemptFailed(how)
}

// attemptFailed records how an attempt failed, and gives up if no more are allowed. Otherwise it
// returns false, and the caller makes the next attempt. It does not give up if a HUP is pending:
// the next attempt answers that.
func (s *Supervisor) attemptFailed(how string) bool {
	s.Failed = FailedAttempts{s.Failed.Count + 1, how}
	r := &s.Restart
	if r.Result != InProgress {
		return false
	}
	r.Reason = how
	if s.rules.MaxAttempts == 0 || r.Attempts < s.rules.MaxAttempts || s.RestartPending {
		return false
	}
	return s.giveUp()
}

// giveUp ends a restart that has failed, and keeps the worker that serves. If none serves, it
// returns false: the restart is given up, but attempts continue, so that it is enough to repair the
// program. If none has ever served, the superdaemon ends.
func (s *Supervisor) giveUp() bool {
	s.endRestart(GivenUp)
	s.Restarting, s.Candidate = false, nil
	r := s.Restart
	failure := lines.Failure{Attempts: r.Attempts, Generation: s.Generation, Reason: r.Reason}
	switch serving := s.Serving(); {
	case serving != nil:
		s.out.Log(lines.RestartGivenUp(failure, serving.Generation, serving.PID))
		s.keepServing(serving)
	case s.StartedAt > 0:
		s.out.Log(lines.RestartGivenUpAlone(failure))
		return false
	default:
		s.out.Log(lines.StartGivenUp(failure))
		s.Failure = fmt.Errorf("no worker has started in %s (generation %d: %s)",
			lines.Count(r.Attempts, "attempt"), s.Generation, r.Reason)
		s.stopAll(s.rules.SignalOnTERM.Signal)
	}
	return true
}

// keepServing makes a worker that was about to be replaced the current one again.
func (s *Supervisor) keepServing(w *Worker) {
	s.Old = slices.DeleteFunc(s.Old, func(old *Worker) bool { return old == w })
	s.Current, s.Failed = w, FailedAttempts{}
	s.StartedAt = s.now // the next automatic restart is due an interval from now
	s.enterRunning()
}

// autoRestart begins a restart when the automatic one is due.
func (s *Supervisor) autoRestart() {
	if !s.settings.AutoRestart || s.StopAt > 0 || s.now < s.settingsDue() {
		return
	}
	s.readSettings()
	if !s.settings.AutoRestart || s.now < s.autoRestartAt() {
		return
	}
	if interval := s.settings.AutoRestartInterval; len(s.Old) == 0 {
		s.out.Log(lines.AutoRestart(interval))
	} else {
		s.out.Log(lines.AutoRestartForced(interval))
	}
	s.beginRestart()
	s.StartWorker()
}

func (s *Supervisor) readSettings() { s.settings, s.readAt = s.out.Settings(), s.now }

// settingsDue returns when the settings are read again while automatic restarts are on: when one is
// due, and earlier if they may change.
func (s *Supervisor) settingsDue() time.Duration {
	if s.settings.MayChange {
		return min(s.autoRestartAt(), s.readAt+settingsTime)
	}
	return s.autoRestartAt()
}

// autoRestartAt returns when the next automatic restart is due: an interval after the current
// worker has started, or two if there is still an old worker.
func (s *Supervisor) autoRestartAt() time.Duration {
	if len(s.Old) > 0 {
		return s.StartedAt + 2*s.settings.AutoRestartInterval
	}
	return s.StartedAt + s.settings.AutoRestartInterval
}
