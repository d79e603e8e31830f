package starter

import (
	"syscall"

	"github.com/start-server/start-server/internal/process"
)

// requestStop answers a signal to stop. With --stop-delay the first one only announces the stop: until
// StopAt everything continues as before, so that clients which have not noticed yet are served, but no
// restart begins. A worker that dies meanwhile is replaced. The second signal stops at once.
func (s *supervisor) requestStop(sig syscall.Signal) {
	nothingServes := s.StartedAt == 0 && len(s.Old) == 0
	if s.rules.stopDelay == 0 || s.StopAt > 0 || nothingServes {
		s.stop(sig)
		return
	}
	s.StopAt, s.StopSignal = s.now+s.rules.stopDelay, sig
	s.RestartPending = false
	s.out.emit(Stopping{})
	s.out.logLine(msgStopDelayed(process.SignalName(sig), s.rules.stopDelay))
	s.notify("STOPPING=1")
}

// stopDue reports whether the delay of a stop is over.
func (s *supervisor) stopDue() bool {
	return s.StopAt > 0 && s.now >= s.StopAt && s.Phase < stopping
}

// stopFirst sends every worker the signal to stop, with --stop-first, and reports whether one is left to
// wait for.
func (s *supervisor) stopFirst() bool {
	if !s.rules.stopFirst {
		return false
	}
	if s.Current != nil {
		s.Old = append(s.Old, s.Current)
		s.Current = nil
	}
	if untold := s.notYetStopped(); len(untold) > 0 {
		s.out.logLine(msgStopFirst(process.SignalName(s.rules.signalOnHUP), pids(untold)))
		for _, w := range untold {
			s.sendStop(w, s.rules.signalOnHUP)
		}
		s.notify("")
	}
	s.Deadline = s.now
	return s.waitingForOld()
}

// waitingForOld reports whether the next worker waits until the old ones are gone, with --stop-first.
func (s *supervisor) waitingForOld() bool {
	return s.rules.stopFirst && s.Phase == starting && s.Candidate == nil && len(s.Old) > 0
}
