package starter

import (
	"syscall"

	"github.com/start-server/start-server/internal/process"
)

// requestStop answers a signal to stop. With --stop-delay the first one only announces the stop: until StopAt
// everything goes on as before, except that no restart begins, so that clients which do not know yet
// are still served. A worker that dies meanwhile is replaced. The second signal stops at once.
func (s *supervisor) requestStop(sig syscall.Signal) {
	nothingServes := s.StartedAt == 0 && len(s.Old) == 0
	if s.rules.stopDelay == 0 || s.StopAt > 0 || nothingServes {
		s.stop(sig)
		return
	}
	s.StopAt, s.StopSignal = s.now+s.rules.stopDelay, sig
	s.RestartPending = false
	s.out.logLine(msgStopDelayed(process.SignalName(sig), s.rules.stopDelay))
	s.notify("STOPPING=1")
}

// stopDue tells whether the delay of a stop is over.
func (s *supervisor) stopDue() bool {
	return s.StopAt > 0 && s.now >= s.StopAt && s.Phase < stopping
}

// stopFirst sends every worker the signal to stop, with --stop-first, and tells whether one is left to wait for.
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

// waitingForOld tells whether the next worker is not started before the old ones are gone. The death
// of the last one ends that.
func (s *supervisor) waitingForOld() bool {
	return s.rules.stopFirst && s.Phase == starting && s.Candidate == nil && len(s.Old) > 0
}
