package starter

import (
	"fmt"
	"slices"
	"time"
)

// restart is a restart by a HUP, by time or because a socket was replaced, or the first start, whose
// number is 0.
type restart struct {
	Number     int           `json:"number"`
	Result     result        `json:"result"`
	Attempts   int           `json:"attempts"`   // to start a worker for it
	Generation int           `json:"generation"` // of the latest of them
	Reason     string        `json:"reason"`     // why the latest of them failed, "" if none did
	BeganAt    time.Duration `json:"began_at"`
	EndedAt    time.Duration `json:"ended_at"`
}

// result is the outcome of a restart, as in the JSON status.
type result string

const (
	inProgress result = "in progress"
	succeeded  result = "succeeded" // the new worker serves and the old ones were signalled to stop
	givenUp    result = "given up"  // after rules.maxAttempts
	cancelled  result = "cancelled" // by a stop
)

// failedAttempts are the attempts to start a worker that failed in a row.
type failedAttempts struct {
	Count  int    `json:"count"`
	Reason string `json:"reason"` // why the latest of them failed
}

// beginRestart begins a restart. One that is under way becomes part of it.
func (s *supervisor) beginRestart() {
	s.Restarting = true
	s.Restart = restart{Number: s.Restart.Number + 1, Result: inProgress, BeganAt: s.now}
	s.out.emit(RestartBegun{Number: s.Restart.Number})
}

// countAttempt counts an attempt if a restart is under way. A worker that replaces one which died
// while serving is not an attempt.
func (s *supervisor) countAttempt() {
	if r := &s.Restart; r.Result == inProgress {
		r.Attempts++
		r.Generation = s.Generation
	}
}

// endRestart ends the restart that is under way, if one is.
func (s *supervisor) endRestart(r result) {
	restart := &s.Restart
	if restart.Result != inProgress {
		return
	}
	restart.Result, restart.EndedAt = r, s.now
	duration := restart.EndedAt - restart.BeganAt
	switch {
	case r == givenUp:
		s.out.emit(RestartGivenUp{restart.Number, restart.Generation, restart.Attempts, duration, restart.Reason})
	case r == succeeded && restart.Number > 0:
		s.out.emit(RestartSucceeded{restart.Number, restart.Generation, restart.Attempts, duration})
	}
}

// startFailed emits an event for a worker that failed to start, with pid 0 if there was no process,
// and calls attemptFailed.
func (s *supervisor) startFailed(pid int, how string) bool {
	s.out.emit(WorkerFailed{PID: pid, Generation: s.Generation, Reason: how})
	return s.attemptFailed(how)
}

// attemptFailed records how an attempt failed, and gives up if no more are allowed. Otherwise it
// returns false, and the caller makes the next attempt. It does not give up if a HUP is pending:
// the next attempt answers that.
func (s *supervisor) attemptFailed(how string) bool {
	s.Failed = failedAttempts{s.Failed.Count + 1, how}
	r := &s.Restart
	if r.Result != inProgress {
		return false
	}
	r.Reason = how
	if s.rules.maxAttempts == 0 || r.Attempts < s.rules.maxAttempts || s.RestartPending {
		return false
	}
	return s.giveUp()
}

// giveUp ends a restart that has failed, and keeps the worker that serves. If none serves, it
// returns false: the restart is given up, but attempts continue, so that it is enough to repair the
// program. If none has ever served, the superdaemon ends.
func (s *supervisor) giveUp() bool {
	serving := s.serving()
	first := serving == nil && s.StartedAt == 0
	s.endRestart(givenUp)
	s.Restarting, s.Candidate = false, nil
	s.out.logLine(msgGivenUp(s.Restart, s.Generation, serving, first))
	switch {
	case first:
		s.failure = fmt.Errorf("no worker has started in %s (generation %d: %s)",
			count(s.Restart.Attempts, "attempt"), s.Generation, s.Restart.Reason)
		s.stopAll(s.rules.signalOnTERM.Signal)
	case serving == nil:
		return false
	default:
		s.keepServing(serving)
	}
	return true
}

// keepServing makes a worker that was about to be replaced the current one again.
func (s *supervisor) keepServing(w *worker) {
	s.Old = slices.DeleteFunc(s.Old, func(old *worker) bool { return old == w })
	s.Current, s.Failed = w, failedAttempts{}
	s.StartedAt = s.now // the next automatic restart is due an interval from now
	s.enterRunning()
}

// serving returns the worker that serves: the current one, else the newest of the old ones that
// were not signalled to stop, for example while starts fail. It returns nil if there is none.
func (s *supervisor) serving() *worker {
	if old := s.notYetStopped(); s.Current == nil && len(old) > 0 {
		return slices.MaxFunc(old, byGeneration)
	}
	return s.Current
}
