package starter

import (
	"syscall"

	"github.com/start-server/start-server/internal/process"
)

// requestStop handles a signal to stop. With --stop-delay the first one only announces the stop:
// until StopAt everything continues, for the clients that have not noticed yet, but no restart
// begins. A worker that dies meanwhile is replaced. The second signal stops at once.
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

// stopFirst signals every worker to stop if --stop-first is given, and reports whether there is a
// worker to wait for.
func (s *supervisor) stopFirst() bool {
	if !s.rules.stopFirst {
		return false
	}
	if s.Current != nil {
		s.Old = append(s.Old, s.Current)
		s.Current = nil
	}
	if old := s.notYetStopped(); len(old) > 0 {
		s.out.logLine(msgStopFirst(s.rules.signalOnHUP.name, pids(old)))
		for _, w := range old {
			s.sendStop(w, s.rules.signalOnHUP.Signal)
		}
		s.notify("")
	}
	s.Deadline = s.now
	return s.waitingForOld()
}

// waitingForOld reports whether the next worker has to wait until the old ones are gone
// (--stop-first).
func (s *supervisor) waitingForOld() bool {
	return s.rules.stopFirst && s.Phase == starting && s.Candidate == nil && len(s.Old) > 0
}
