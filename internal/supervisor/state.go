package supervisor

import (
	"cmp"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// Phase is what the superdaemon is about to do next.
type Phase int

const (
	Starting Phase = iota // a worker is starting, or will be started after a pause: until Deadline
	Running               // the current worker serves
	Delaying              // the new worker serves, the old ones are signalled to stop at Deadline
	Stopping              // all workers were signalled to stop
	Stopped               // all workers have ended
)

// State is the state of the supervisor. It crosses upgrades, so times are durations since the first
// superdaemon of this process started.
type State struct {
	Phase          Phase         `json:"phase"`
	Generation     int           `json:"generation"`
	Candidate      *Worker       `json:"candidate"`       // is starting; nil in the pause before the next attempt
	Current        *Worker       `json:"current"`         // serves; nil if none does
	Old            []*Worker     `json:"old"`             // all other living workers
	RestartPending bool          `json:"restart_pending"` // a HUP was received and not acted on yet
	SocketReplaced bool          `json:"socket_replaced"` // after the latest worker was started
	Restarting     bool          `json:"restarting"`      // a restart is under way: stop the old workers at its end
	ReadySent      bool          `json:"ready_sent"`      // the service manager has got READY=1
	LastStartAt    time.Duration `json:"last_start_at"`   // when the latest worker was started
	StartedAt      time.Duration `json:"started_at"`      // when the latest worker had started, for the auto restart
	Deadline       time.Duration `json:"deadline"`        // when the phases Starting and Delaying end
	Restart        Restart       `json:"restart"`         // the latest one

	Failed FailedAttempts `json:"failed"` // none if the latest has not failed

	FirstStep time.Time `json:"first_step"` // when the first superdaemon of this process began

	StopAt     time.Duration  `json:"stop_at"`     // when to stop the workers, after a signal to stop; 0 for none
	StopSignal syscall.Signal `json:"stop_signal"` // that signal
}

// A Worker is a process that was started to serve.
type Worker struct {
	PID        int           `json:"pid"`
	Generation int           `json:"generation"`
	Started    bool          `json:"started"`     // it has shown that it can serve
	Dead       bool          `json:"dead"`        // a candidate that died before the end of its start
	Status     int           `json:"status"`      // raw wait status if Dead
	StopSent   bool          `json:"stop_sent"`   // a signal to stop was sent
	KillAt     time.Duration `json:"kill_at"`     // when to send KILL; 0 for never
	StatusText string        `json:"status_text"` // its last STATUS=
	Since      time.Time     `json:"since"`       // when its state last changed: starting, serving, stopping

	Startup
}

// Startup is what is known of a worker while it starts, and if it never has.
type Startup struct {
	Missing []string      `json:"missing,omitempty"` // sockets on which it does not accept connections yet, by their keys
	Unseen  string        `json:"unseen,omitempty"`  // why that cannot be seen: then the interval decides
	Grace   time.Duration `json:"grace,omitempty"`   // from its signal to stop to KILL, if not Rules.KillTimeout
}

// FailedAttempts are the attempts to start a worker that failed in a row.
type FailedAttempts struct {
	Count  int    `json:"count"`
	Reason string `json:"reason"` // why the latest of them failed
}

// Check returns an error if no supervisor can be in this state.
func (s *State) Check(now time.Duration) error {
	seen := map[int]bool{}
	for _, w := range s.all() {
		if w == nil || w.PID <= 1 || seen[w.PID] || w.Dead && w != s.Candidate {
			return fmt.Errorf("%+v is not a worker", w)
		}
		if w.Generation < 1 || w.Generation > s.Generation || w.KillAt < 0 {
			return fmt.Errorf("%+v is not a worker of generation 1 to %d", w, s.Generation)
		}
		seen[w.PID] = true
	}
	settled := s.Current != nil && s.Candidate == nil
	switch {
	case s.Phase == Starting, s.Phase == Running && settled, s.Phase == Delaying && settled:
	default:
		return fmt.Errorf("phase %d with current worker %+v and candidate %+v", s.Phase, s.Current, s.Candidate)
	}
	if s.LastStartAt < 0 || s.LastStartAt > now || s.StartedAt < 0 || s.StartedAt > now || s.Deadline < 0 || s.StopAt < 0 {
		return fmt.Errorf("the clock is at %s, before a worker was started at %s or %s", now, s.LastStartAt, s.StartedAt)
	}
	return nil
}

// all returns the workers, in no particular order.
func (s *State) all() []*Worker {
	all := slices.Clone(s.Old)
	for _, w := range []*Worker{s.Current, s.Candidate} {
		if w != nil {
			all = append(all, w)
		}
	}
	return all
}

// Workers returns all workers, oldest first.
func (s *State) Workers() []*Worker {
	all := slices.Clone(s.Old)
	if s.Current != nil {
		all = append(all, s.Current)
	}
	if s.Candidate != nil {
		all = append(all, s.Candidate)
	}
	slices.SortFunc(all, byGeneration)
	return all
}

// StartedWorkers returns the workers that have started, oldest first.
func (s *State) StartedWorkers() []*Worker {
	return slices.DeleteFunc(s.Workers(), func(w *Worker) bool { return !w.Started })
}

// Serving returns the worker that serves: the current one, else the newest of the old ones that
// were not signalled to stop, for example while starts fail. It returns nil if there is none.
func (s *State) Serving() *Worker {
	if old := s.notYetStopped(); s.Current == nil && len(old) > 0 {
		return slices.MaxFunc(old, byGeneration)
	}
	return s.Current
}

// notYetStopped returns the old workers that were not signalled to stop yet.
func (s *State) notYetStopped() []*Worker {
	return slices.DeleteFunc(slices.Clone(s.Old), func(w *Worker) bool { return w.StopSent })
}

// find returns the worker with this pid, or nil.
func (s *State) find(pid int) *Worker {
	for _, w := range s.Workers() {
		if w.PID == pid {
			return w
		}
	}
	return nil
}

func byGeneration(a, b *Worker) int { return cmp.Compare(a.Generation, b.Generation) }

// PIDs returns the pids of workers.
func PIDs(workers []*Worker) []int {
	list := make([]int, len(workers))
	for i, w := range workers {
		list[i] = w.PID
	}
	return list
}
