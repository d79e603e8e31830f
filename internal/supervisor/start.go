package supervisor

import (
	"slices"

	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/waitstatus"
)

// StartWorker starts the next worker. It acts on all HUPs received until now.
func (s *Supervisor) StartWorker() {
	if s.RestartPending {
		s.RestartPending = false
		s.beginRestart()
		s.out.ReopenLog()
		s.out.Log(lines.ReceivedHUP)
	}
	if s.Restarting && s.ReadySent {
		s.ReadySent = false
		s.notify("RELOADING=1")
	}
	s.Phase, s.Candidate = Starting, nil
	if s.stopFirst() {
		return
	}
	s.Generation++
	s.SocketReplaced = false
	s.countAttempt()
	s.LastStartAt = s.now
	s.readSettings()
	pid, err := s.out.Start(s.Generation)
	if err != nil {
		s.out.Log(lines.NoWorker(err))
		if !s.startFailed(0, err.Error()) {
			s.retry()
		}
		return
	}
	s.Candidate = &Worker{PID: pid, Generation: s.Generation, Since: s.wall}
	s.out.Log(lines.StartingWorker(pid))
	s.out.Emit(WorkerStarted{PID: pid, Generation: s.Generation})
	s.Deadline = s.now + s.rules.Interval
	if s.rules.Readiness != ByInterval {
		s.Deadline = s.now + s.rules.StartTimeout
	}
	s.notify("")
	s.OnTimer() // the interval may be 0
}

// retry makes the next attempt when the interval since the start of the last one is over.
func (s *Supervisor) retry() {
	s.Phase, s.Candidate = Starting, nil
	s.Deadline = s.LastStartAt + max(s.rules.Interval, retryPause)
	s.OnTimer()
}

// OnReady handles READY=1 from a worker, or that it waits for connections on every socket.
func (s *Supervisor) OnReady(pid int) {
	if s.isStarting(pid) {
		s.startSucceeded()
	}
}

// OnMissing handles that a worker does not wait for connections on some of its sockets yet.
func (s *Supervisor) OnMissing(pid int, keys []string) {
	if s.isStarting(pid) && !slices.Equal(s.Candidate.Missing, keys) {
		s.Candidate.Missing = keys
		s.notify("")
	}
}

// OnUnseen handles that it cannot be seen whether a worker waits for connections: then the interval
// decides.
func (s *Supervisor) OnUnseen(pid int, why string) {
	if !s.isStarting(pid) || s.Candidate.Unseen != "" {
		return
	}
	s.Candidate.Unseen, s.Candidate.Missing = why, nil
	s.out.Log(lines.Unseen(pid, why))
	s.Deadline = s.LastStartAt + s.rules.Interval
}

func (s *Supervisor) isStarting(pid int) bool {
	c := s.Candidate
	return s.Phase == Starting && c != nil && c.PID == pid && !c.Dead
}

// finishStart decides at the deadline of a start whether it has succeeded, and starts a worker at
// the end of a pause.
func (s *Supervisor) finishStart() {
	c := s.Candidate
	switch {
	case c == nil:
		s.StartWorker()
	case c.Dead:
		s.out.Log(lines.FailedToStart(c.PID, c.Status))
		s.out.Forget(c.PID)
		s.hint(c)
		if !s.startFailed(c.PID, waitstatus.Describe(c.Status)) {
			s.StartWorker()
		}
	case s.rules.Readiness != ByInterval && c.Unseen == "":
		s.notInTime(c)
	case !s.out.Executed(c.PID): // a busy machine: whether the program can be executed is not known yet
		s.Deadline = s.now + retryPause
	default:
		s.startSucceeded()
	}
}

// notInTime stops a candidate that has not shown in time that it can serve. It gets as long again
// to end, or Rules.KillTimeout if that is shorter, so that versions that hang do not pile up.
func (s *Supervisor) notInTime(c *Worker) {
	name, timeout := s.rules.SignalOnTERM.Name, s.rules.StartTimeout
	how := lines.HowNotReady(timeout)
	if s.rules.Readiness == ByAccepting {
		s.out.Log(lines.NotAccepting(c.PID, c.Missing, timeout, name))
		how = lines.HowNotAccepting(c.Missing, timeout)
	} else {
		s.out.Log(lines.NotReady(c.PID, timeout, name))
	}
	s.hint(c)
	s.Old = append(s.Old, c)
	if s.rules.KillTimeout == 0 || timeout < s.rules.KillTimeout {
		c.Grace, c.KillAt = timeout, s.now+timeout
	}
	s.sendStop(c, s.rules.SignalOnTERM.Signal)
	if !s.startFailed(c.PID, how) {
		s.retry()
	}
}

// hint logs a hint for new users, once: if no worker has ever started, and the second attempt has
// failed like the first.
func (s *Supervisor) hint(c *Worker) {
	if s.Generation != 2 || s.StartedAt > 0 {
		return
	}
	switch {
	case !c.Dead:
		if s.rules.Readiness == ByNotice {
			s.out.Log(lines.HintReady)
		}
	case c.Status == 0:
		s.out.Log(lines.HintForeground)
	case c.Status == waitstatus.NotExecuted:
		if s.hints.OneWord {
			s.out.Log(lines.HintOneWord)
		}
	case s.hints.Dir && waitstatus.MayBeDirectory(c.Status): // reported already
	case s.hints.Sockets:
		s.out.Log(lines.HintSockets)
	}
}

// startSucceeded makes the candidate the current worker.
func (s *Supervisor) startSucceeded() {
	if s.Current != nil {
		s.Old = append(s.Old, s.Current)
	}
	s.Current, s.Candidate, s.Failed = s.Candidate, nil, FailedAttempts{}
	s.Current.Started, s.Current.Missing, s.Current.Since = true, nil, s.wall
	s.StartedAt = s.now
	s.writeStatus()
	s.out.Emit(WorkerReady{PID: s.Current.PID, Generation: s.Current.Generation})

	old := s.notYetStopped()
	if !s.Restarting && len(old) == 0 {
		s.enterRunning()
		return
	}
	s.out.Log(lines.NowRunning(s.rules.SignalOnHUP.Name, PIDs(old)))
	if delay := s.settings.KillOldDelay; delay > 0 && !s.rules.StopFirst {
		s.out.Log(lines.Sleeping(delay))
		s.Phase, s.Deadline = Delaying, s.now+delay
		return
	}
	s.stopOldWorkers()
}

// currentExited handles the death of the current worker.
func (s *Supervisor) currentExited(status int) {
	w := s.Current
	s.Current = nil
	if s.Phase == Starting { // a new worker is starting already
		s.out.Log(lines.OldDied(w.PID, status))
		s.workerGone(w)
		return
	}
	s.out.Log(lines.DiedUnexpectedly(w.PID, status))
	s.workerGone(w)
	if s.Phase == Delaying && s.attemptFailed(waitstatus.Describe(status)) {
		return
	}
	s.Phase, s.Candidate = Starting, nil
	s.Deadline = s.LastStartAt + retryPause
	s.OnTimer()
}

// enterRunning enters the phase Running, at the end of every successful start.
func (s *Supervisor) enterRunning() {
	s.Phase = Running
	s.killSurplus()
	s.endRestart(Succeeded)
	if s.ReadySent || s.StopAt > 0 {
		s.notify("")
	} else {
		s.ReadySent = true
		s.notify("READY=1")
	}
	s.OnTimer()
}
