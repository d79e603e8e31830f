// Package supervisor makes the decisions of the superdaemon: when to start a worker, when it has
// started, when to stop the old ones, when to give up. It has no goroutine and no clock, and makes
// no system calls.
package supervisor

import (
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/signame"
)

// Effects is everything that the supervisor can do, and ask.
type Effects interface {
	Settings() Settings // reads them
	Start(generation int) (pid int, err error)
	Signal(pid int, sig syscall.Signal)
	Executed(pid int) bool // reports whether a worker has executed its program
	Forget(pid int)        // a worker is gone
	WriteStatus(started []*Worker)
	ReopenLog()
	Log(line string)
	Notify(state string) // notify the service manager, by sd_notify(3)
	StartUpgrade()       // upgrade the superdaemon, for USR2
	Emit(e Event)
}

// Supervisor is passed one event at a time, and acts through effects. Every step begins with
// BeginStep and ends with OnTimer.
type Supervisor struct {
	State
	Failure error // why the superdaemon ends, if not by a signal

	rules     Rules
	hints     Hints
	out       Effects
	settings  Settings // as they were at readAt
	readAt    time.Duration
	now       time.Duration
	wall      time.Time // now by the time of day, for people only
	resumedAt time.Duration
}

// New returns a supervisor that has started nothing.
func New(r Rules, h Hints, out Effects) *Supervisor {
	return &Supervisor{rules: r, hints: h, out: out, State: State{Restart: Restart{Result: InProgress}}}
}

// Resume continues from the state of the superdaemon before an upgrade.
func (s *Supervisor) Resume(state State, now time.Duration) {
	s.State, s.resumedAt, s.now = state, now, now
	s.readSettings()
}

// BeginStep begins a step of the loop with the time, by the supervisor's clock and as the time of
// day.
func (s *Supervisor) BeginStep(now time.Duration, wall time.Time) {
	s.now, s.wall = now, wall
	if s.FirstStep.IsZero() {
		s.FirstStep = s.wall
	}
}

// Adopt makes the workers that another superdaemon left the old workers, before the first worker is
// started. Generations continue from the newest of them.
func (s *Supervisor) Adopt(left []*Worker) {
	for _, w := range left {
		w.Started = true
		if w.StopSent && s.rules.KillTimeout > 0 {
			w.KillAt = s.now + s.rules.KillTimeout
		}
		s.Generation = max(s.Generation, w.Generation)
		s.out.Emit(WorkerAdopted{PID: w.PID, Generation: w.Generation})
	}
	s.Old, s.StartedAt = left, s.now
	s.writeStatus()
	if s.Serving() != nil && !s.rules.StopFirst {
		s.ReadySent = true
		s.notify("READY=1")
	}
}

// OnSignal handles a signal that the superdaemon received.
func (s *Supervisor) OnSignal(sig syscall.Signal) {
	switch sig {
	case syscall.SIGHUP:
		if s.StopAt > 0 {
			s.out.Log(lines.Ignored("HUP"))
			return
		}
		s.RestartPending = true // acted on when no start and no delay is under way: see OnTimer
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
		switch s.Phase {
		case Starting, Running, Delaying:
			s.requestStop(sig)
		case Stopping, Stopped: // all workers were signalled already
		}
	case syscall.SIGUSR2:
		switch s.Phase {
		case Starting, Running, Delaying:
			s.out.Emit(UpgradeRequested{})
			s.out.StartUpgrade()
		case Stopping, Stopped:
		}
	case syscall.SIGALRM: // the timer of the original
	default:
		s.out.Log(lines.Ignored(signame.Of(sig)))
	}
}

// OnSocketReplaced handles that a socket was shut down and a new one bound in its place: no worker
// has that one yet.
func (s *Supervisor) OnSocketReplaced() { s.SocketReplaced = true }

// OnExit handles the death of a worker. It ignores other children (orphans, if this is process 1).
func (s *Supervisor) OnExit(pid, status int) {
	w := s.find(pid)
	if w == nil {
		return
	}
	s.out.Emit(WorkerDied{PID: pid, Generation: w.Generation, Status: status, Stopped: w.StopSent})
	switch w {
	case s.Candidate:
		w.Dead, w.Status = true, status
		s.Deadline = s.LastStartAt + max(s.rules.Interval, retryPause)
	case s.Current:
		s.currentExited(status)
	default:
		s.oldExited(w, status)
	}
	if s.Phase == Stopping {
		s.finish()
	}
}

func (s *Supervisor) oldExited(old *Worker, status int) {
	s.Old = slices.DeleteFunc(s.Old, func(w *Worker) bool { return w == old })
	switch {
	case s.Phase == Stopping:
		s.out.Log(lines.WorkerDied(old.PID, status))
	case old.Started:
		s.out.Log(lines.OldDied(old.PID, status))
	default:
		s.out.Log(lines.FailedToStart(old.PID, status))
	}
	s.workerGone(old)
}

// OnExtend handles EXTEND_TIMEOUT_USEC from a worker: its deadline to start or to stop is at least
// by from now.
func (s *Supervisor) OnExtend(pid int, by time.Duration) {
	switch w := s.find(pid); {
	case w == nil:
	case w == s.Candidate && !w.Dead:
		s.Deadline = max(s.Deadline, s.now+by)
	case w.KillAt > 0:
		w.KillAt = max(w.KillAt, s.now+by)
	}
}

// OnStatus handles STATUS= from a worker.
func (s *Supervisor) OnStatus(pid int, text string) {
	if w := s.find(pid); w != nil {
		w.StatusText = strings.Map(printable, text)
		s.notify("")
	}
}

// printable drops characters that are not printable: the text may be shown on a terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}

// OnTimer does everything that is due.
func (s *Supervisor) OnTimer() {
	s.killOverdue()
	if s.stopDue() {
		s.stop(s.StopSignal)
	}
	switch s.Phase {
	case Starting:
		if s.now >= s.Deadline && !s.waitingForOld() {
			s.finishStart()
		}
	case Running:
		switch {
		case s.RestartPending:
			s.StartWorker()
		case s.SocketReplaced && s.StopAt == 0:
			s.out.Log(lines.SocketReplaced)
			s.beginRestart()
			s.StartWorker()
		default:
			s.autoRestart()
		}
	case Delaying:
		if s.now >= s.Deadline {
			s.stopOldWorkers()
		}
	case Stopping, Stopped:
	}
}

// NextDeadline returns when OnTimer has something to do next, deadline.Never if only an event can
// tell.
func (s *Supervisor) NextDeadline() time.Duration {
	at := deadline.Never
	switch s.Phase {
	case Starting, Delaying:
		if !s.waitingForOld() {
			at = s.Deadline
		}
	case Running:
		if s.settings.AutoRestart && s.StopAt == 0 {
			at = s.settingsDue()
		}
	case Stopping, Stopped:
	}
	if s.StopAt > 0 && s.Phase < Stopping {
		at = min(at, s.StopAt)
	}
	for _, w := range s.Old {
		if w.KillAt > 0 {
			at = min(at, w.KillAt)
		}
	}
	return at
}

// workerGone updates the status file and notifies the service manager after the death of a worker.
func (s *Supervisor) workerGone(w *Worker) {
	s.out.Forget(w.PID)
	if w.Started {
		s.writeStatus()
	}
	s.notify("")
}

func (s *Supervisor) writeStatus() { s.out.WriteStatus(s.StartedWorkers()) }

// notify sends a state, if it is not "", and a description to the service manager.
func (s *Supervisor) notify(state string) {
	if state != "" {
		state += "\n"
	}
	s.out.Notify(state + "STATUS=" + s.describe())
}
