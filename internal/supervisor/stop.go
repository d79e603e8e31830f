package supervisor

import (
	"cmp"
	"slices"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/signame"
)

// resendTime is how long after an upgrade a signal to stop may be one that was sent again, because
// its sender could not know that the previous superdaemon had received it.
const resendTime = time.Second

// requestStop handles a signal to stop. With --stop-delay the first one only announces the stop:
// until StopAt everything continues, for the clients that have not noticed yet, but no restart
// begins. A worker that dies meanwhile is replaced. The second signal stops at once.
func (s *Supervisor) requestStop(sig syscall.Signal) {
	nothingServes := s.StartedAt == 0 && len(s.Old) == 0
	switch {
	case s.StopAt > 0 && s.resumedAt > 0 && s.now < s.resumedAt+resendTime:
		return
	case s.rules.StopDelay == 0, s.StopAt > 0, nothingServes:
		s.stop(sig)
		return
	}
	s.StopAt, s.StopSignal = s.now+s.rules.StopDelay, sig
	s.RestartPending = false
	s.out.Emit(StopBegun{})
	s.out.Log(lines.StopDelayed(signame.Of(sig), s.rules.StopDelay))
	s.notify("STOPPING=1")
}

// stopDue reports whether the delay of a stop is over.
func (s *Supervisor) stopDue() bool {
	return s.StopAt > 0 && s.now >= s.StopAt && s.Phase < Stopping
}

// stop handles a signal to stop.
func (s *Supervisor) stop(sig syscall.Signal) {
	order := sigTERM
	if sig == syscall.SIGTERM {
		order = s.rules.SignalOnTERM
	}
	s.out.Log(lines.ReceivedStop(signame.Of(sig), order.Name, PIDs(s.Workers())))
	s.stopAll(order.Signal)
}

// stopAll signals every worker to stop, including those that were signalled before.
func (s *Supervisor) stopAll(order syscall.Signal) {
	all := s.Workers()
	s.endRestart(Cancelled)
	if s.StopAt == 0 { // otherwise it was emitted when the delay began
		s.out.Emit(StopBegun{})
	}
	s.Phase, s.Current, s.Candidate = Stopping, nil, nil
	s.Old = nil
	for _, w := range all {
		if w.Dead { // the original, which has not reaped it yet, logs this too
			s.out.Log(lines.WorkerDied(w.PID, w.Status))
			s.out.Forget(w.PID)
			continue
		}
		s.Old = append(s.Old, w)
		s.sendStop(w, order)
	}
	s.notify("STOPPING=1")
	s.finish()
}

func (s *Supervisor) finish() {
	if len(s.Old) == 0 {
		s.Phase = Stopped
		s.out.Log(lines.Exiting)
	}
}

// stopFirst signals every worker to stop if --stop-first is given, and reports whether there is a
// worker to wait for.
func (s *Supervisor) stopFirst() bool {
	if !s.rules.StopFirst {
		return false
	}
	if s.Current != nil {
		s.Old = append(s.Old, s.Current)
		s.Current = nil
	}
	if old := s.notYetStopped(); len(old) > 0 {
		s.out.Log(lines.StopFirst(s.rules.SignalOnHUP.Name, PIDs(old)))
		for _, w := range old {
			s.sendStop(w, s.rules.SignalOnHUP.Signal)
		}
		s.notify("")
	}
	s.Deadline = s.now
	return s.waitingForOld()
}

// waitingForOld reports whether the next worker has to wait until the old ones are gone
// (--stop-first).
func (s *Supervisor) waitingForOld() bool {
	return s.rules.StopFirst && s.Phase == Starting && s.Candidate == nil && len(s.Old) > 0
}

// stopOldWorkers signals every old worker to stop, except those that were signalled before: many
// servers drop their clients at a second TERM.
func (s *Supervisor) stopOldWorkers() {
	s.out.Log(lines.KillingOld)
	for _, w := range s.notYetStopped() {
		s.sendStop(w, s.rules.SignalOnHUP.Signal)
	}
	s.Restarting = false
	s.enterRunning()
}

// killSurplus kills the oldest of the workers that have served and were told to stop, if more than
// Rules.MaxOldWorkers are left.
func (s *Supervisor) killSurplus() {
	if s.rules.MaxOldWorkers == nil {
		return
	}
	old := slices.DeleteFunc(s.StartedWorkers(), func(w *Worker) bool { return !w.StopSent })
	for _, w := range old[:max(len(old)-*s.rules.MaxOldWorkers, 0)] {
		w.KillAt = 0
		s.out.Log(lines.TooManyOld(w.PID, *s.rules.MaxOldWorkers))
		s.signal(w, syscall.SIGKILL)
	}
}

// sendStop signals a worker to stop. If it has a deadline already, that stays.
func (s *Supervisor) sendStop(w *Worker, sig syscall.Signal) {
	if !w.StopSent {
		w.StopSent, w.Since = true, s.wall
	}
	if s.rules.KillTimeout > 0 && w.KillAt == 0 {
		w.KillAt = s.now + s.rules.KillTimeout
	}
	s.signal(w, sig)
}

func (s *Supervisor) signal(w *Worker, sig syscall.Signal) {
	s.out.Emit(WorkerStopped{PID: w.PID, Generation: w.Generation, Signal: sig})
	s.out.Signal(w.PID, sig)
}

// killOverdue kills the workers that are still there when they should have ended.
func (s *Supervisor) killOverdue() {
	for _, w := range s.Old {
		if w.KillAt > 0 && s.now >= w.KillAt {
			w.KillAt = 0
			s.out.Log(lines.KillTimeout(w.PID, cmp.Or(w.Grace, s.rules.KillTimeout)))
			s.signal(w, syscall.SIGKILL)
		}
	}
}
