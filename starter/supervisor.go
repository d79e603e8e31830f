package starter

import (
	"cmp"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/statusfile"
)

// phase is what the superdaemon is about to do next.
type phase int

const (
	starting phase = iota // a worker was started, or will be after a pause: until Due
	running               // the current worker serves
	delaying              // the new worker serves, the old ones are told to stop at Due
	stopping              // everybody was told to stop
	stopped               // everybody is gone
)

// retryPause keeps attempts to start a worker apart where the interval
// does not: with an interval of 0 the original spins.
const retryPause = 100 * time.Millisecond

// A worker is a child that was started to serve.
type worker struct {
	PID        int
	Generation int
	Started    bool          // has served: it was alive after the interval, or said that it is ready
	Dead       bool          // a candidate that died before it was decided on
	Status     int           // raw wait status, where Dead
	Told       bool          // was told to stop
	KillAt     time.Duration // when it gets KILL; 0 for never
	Words      string        // its last STATUS=
}

// rules are what the operator asked for at the start.
type rules struct {
	interval     time.Duration
	readyTimeout time.Duration // 0: a worker that is alive after the interval has started
	killTimeout  time.Duration // 0: nobody is ever killed
	signalOnHUP  syscall.Signal
	signalOnTERM syscall.Signal
	sockets      bool // there are sockets to be taken over by the worker
}

// settings are what the environment and the envdir say at the moment.
type settings struct {
	autoRestart         bool
	autoRestartInterval time.Duration
	killOldDelay        time.Duration
}

// outside is everything that the supervisor can do to the world.
type outside interface {
	start(generation int) (pid int, err error)
	signal(pid int, sig syscall.Signal)
	forget(pid int) // a worker is gone
	writeStatus(workers []statusfile.Worker)
	reopenLog()
	log(line string)
	notify(state string) // tells the service manager, by sd_notify(3)
	upgrade()            // USR2: replace the superdaemon
}

// state is all that the supervisor knows. It is what a superdaemon that is
// replaced by USR2 leaves to its successor, times as durations since the
// first of them started.
type state struct {
	Phase      phase
	Generation int
	Candidate  *worker       // is being started; nil in the pause before the next attempt
	Current    *worker       // serves; nil while nobody does
	Old        []*worker     // everybody else who still lives
	HUP        bool          // a HUP waits to be acted on
	Swapping   bool          // a restart was asked for, the old ones are told to stop at its end
	Announced  bool          // the service manager was told that we are ready
	AttemptAt  time.Duration // when the latest worker was started
	StartedAt  time.Duration // when the latest worker had started, for the auto restart
	Due        time.Duration // when the phases starting and delaying are over
}

// supervisor decides. It has no goroutine, no clock and makes no system call:
// the loop tells it what happened, one event at a time, and it answers by
// what it does to outside.
type supervisor struct {
	state
	rules    rules
	settings settings
	now      time.Duration
	out      outside
}

func newSupervisor(r rules, out outside) *supervisor {
	return &supervisor{rules: r, out: out}
}

// turn begins a turn of the loop: what the time is and what is asked for now.
func (s *supervisor) turn(now time.Duration, current settings) {
	s.now, s.settings = now, current
}

// signalled answers a signal that the superdaemon received.
func (s *supervisor) signalled(sig syscall.Signal) {
	switch sig {
	case syscall.SIGHUP:
		s.HUP = true // acted on when no start and no delay is under way: see passed
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
		switch s.Phase {
		case starting, running, delaying:
			s.stop(sig)
		case stopping, stopped: // everybody was told already
		}
	case syscall.SIGUSR2:
		switch s.Phase {
		case starting, running, delaying:
			s.out.upgrade()
		case stopping, stopped:
		}
	case syscall.SIGALRM: // the original's own timer
	default:
		s.out.log(msgIgnored(process.SignalName(sig)))
	}
}

// exited answers the death of a child. Children that are no workers (orphans
// that PID 1 inherits) are none of its business.
func (s *supervisor) exited(pid, status int) {
	switch old := s.old(pid); {
	case s.Candidate != nil && s.Candidate.PID == pid:
		s.Candidate.Dead, s.Candidate.Status = true, status
		s.Due = s.AttemptAt + max(s.rules.interval, retryPause)
	case s.Current != nil && s.Current.PID == pid:
		s.currentExited(status)
	case old != nil:
		s.Old = slices.DeleteFunc(s.Old, func(w *worker) bool { return w == old })
		switch {
		case s.Phase == stopping:
			s.out.log(msgWorkerDied(pid, status))
		case old.Started:
			s.out.log(msgOldDied(pid, status))
		default:
			s.out.log(msgFailedToStart(pid, status))
		}
		s.gone(old)
	default:
		return
	}
	if s.Phase == stopping {
		s.finish()
	}
}

func (s *supervisor) currentExited(status int) {
	w := s.Current
	s.Current = nil
	if s.Phase == starting { // its successor is on the way already
		s.out.log(msgOldDied(w.PID, status))
		s.gone(w)
		return
	}
	s.out.log(msgDiedUnexpectedly(w.PID, status))
	s.gone(w)
	s.pause(retryPause)
}

// ready answers READY=1 from a worker.
func (s *supervisor) ready(pid int) {
	if c := s.Candidate; s.Phase == starting && c != nil && c.PID == pid && !c.Dead {
		s.started()
	}
}

// extend answers EXTEND_TIMEOUT_USEC from a worker: what it was given time for
// ends no sooner than by from now.
func (s *supervisor) extend(pid int, by time.Duration) {
	switch c, old := s.Candidate, s.old(pid); {
	case c != nil && c.PID == pid && !c.Dead:
		s.Due = max(s.Due, s.now+by)
	case old != nil && old.KillAt > 0:
		old.KillAt = max(old.KillAt, s.now+by)
	}
}

// described answers STATUS= from a worker.
func (s *supervisor) described(pid int, words string) {
	for _, w := range s.workers() {
		if w.PID == pid {
			w.Words = strings.Map(printable, words)
			s.notify("")
		}
	}
}

// printable drops what a worker could do to the terminal of an operator.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}

// passed does what is due.
func (s *supervisor) passed() {
	s.killOverdue()
	switch s.Phase {
	case starting:
		if s.now >= s.Due {
			s.decide()
		}
	case running:
		if s.HUP {
			s.attempt()
		} else {
			s.autoRestart()
		}
	case delaying:
		if s.now >= s.Due {
			s.dismissOld()
		}
	case stopping, stopped:
	}
}

// wake says when passed has something to do next, if nothing else happens.
func (s *supervisor) wake() (at time.Duration, ok bool) {
	sooner := func(t time.Duration) {
		if !ok || t < at {
			at, ok = t, true
		}
	}
	switch s.Phase {
	case starting, delaying:
		sooner(s.Due)
	case running:
		if s.settings.autoRestart {
			sooner(s.StartedAt + s.autoRestartAfter())
		}
	case stopping, stopped:
	}
	for _, w := range s.Old {
		if w.KillAt > 0 {
			sooner(w.KillAt)
		}
	}
	return at, ok
}

// idle tells whether nothing is under way: one worker serves, and that is all.
func (s *supervisor) idle() bool { return s.Phase == running && len(s.Old) == 0 }

// attempt starts the next worker. It answers every HUP received until now.
func (s *supervisor) attempt() {
	if s.HUP {
		s.HUP, s.Swapping = false, true
		s.out.reopenLog()
		s.out.log(msgReceivedHUP)
	}
	if s.Swapping && s.Announced {
		s.Announced = false
		s.notify("RELOADING=1")
	}
	s.Phase, s.Candidate = starting, nil
	s.Generation++
	s.AttemptAt = s.now
	pid, err := s.out.start(s.Generation)
	if err != nil {
		s.out.log(msgNoWorker(err))
		s.pause(max(s.rules.interval, retryPause))
		return
	}
	s.Candidate = &worker{PID: pid, Generation: s.Generation}
	s.out.log(msgStartingWorker(pid))
	s.Due = s.now + s.rules.interval
	if s.rules.readyTimeout > 0 {
		s.Due = s.now + s.rules.readyTimeout
	}
	s.notify("")
	s.passed() // an interval of 0 is over already
}

// pause puts the next attempt off until so long after the latest one.
func (s *supervisor) pause(d time.Duration) {
	s.Phase, s.Candidate = starting, nil
	s.Due = s.AttemptAt + d
	s.passed()
}

// decide is what happens at the end of the time that a worker is given to
// start, and at the end of a pause.
func (s *supervisor) decide() {
	c := s.Candidate
	switch {
	case c == nil:
		s.attempt()
	case c.Dead:
		s.out.log(msgFailedToStart(c.PID, c.Status))
		s.out.forget(c.PID)
		s.hint(c)
		s.attempt()
	case s.rules.readyTimeout > 0:
		s.out.log(msgNotReady(c.PID, s.rules.readyTimeout, process.SignalName(s.rules.signalOnTERM)))
		s.hint(c)
		s.Old = append(s.Old, c)
		s.tell(c, s.rules.signalOnTERM)
		s.pause(max(s.rules.interval, retryPause))
	default:
		s.started()
	}
}

// hint helps who is new to this, once: no worker has ever started, and the second attempt has failed like
// the first.
func (s *supervisor) hint(c *worker) {
	if s.Generation != 2 || s.StartedAt > 0 {
		return
	}
	switch {
	case !c.Dead:
		s.out.log(msgHintReady)
	case c.Status == 0:
		s.out.log(msgHintForeground)
	case c.Status != process.StatusNotExecuted && s.rules.sockets:
		s.out.log(msgHintSockets)
	}
}

// started makes the candidate the current worker.
func (s *supervisor) started() {
	if s.Current != nil {
		s.Old = append(s.Old, s.Current)
	}
	s.Current, s.Candidate = s.Candidate, nil
	s.Current.Started = true
	s.StartedAt = s.now
	s.writeStatus()

	untold := s.untold()
	if !s.Swapping && len(untold) == 0 {
		s.run()
		return
	}
	s.out.log(msgNowRunning(process.SignalName(s.rules.signalOnHUP), pids(untold)))
	if delay := s.settings.killOldDelay; delay > 0 {
		s.out.log(msgSleeping(delay))
		s.Phase, s.Due = delaying, s.now+delay
		return
	}
	s.dismissOld()
}

// dismissOld tells every old worker to stop who was not told before: to many
// servers a second TERM means "now", and requests are lost.
func (s *supervisor) dismissOld() {
	s.out.log(msgKillingOld)
	for _, w := range s.untold() {
		s.tell(w, s.rules.signalOnHUP)
	}
	s.Swapping = false
	s.run()
}

// run is where every start that succeeded ends.
func (s *supervisor) run() {
	s.Phase = running
	if s.Announced {
		s.notify("")
	} else {
		s.Announced = true
		s.notify("READY=1")
	}
	s.passed()
}

// autoRestart acts as on HUP when it is time.
func (s *supervisor) autoRestart() {
	interval := s.settings.autoRestartInterval
	if !s.settings.autoRestart || s.now < s.StartedAt+s.autoRestartAfter() {
		return
	}
	if len(s.Old) == 0 {
		s.out.log(msgAutoRestart(interval))
	} else {
		s.out.log(msgAutoRestartForced(interval))
	}
	s.Swapping = true
	s.attempt()
}

// autoRestartAfter is how long the current worker is left alone: twice as
// long where an old worker still lingers.
func (s *supervisor) autoRestartAfter() time.Duration {
	if len(s.Old) > 0 {
		return 2 * s.settings.autoRestartInterval
	}
	return s.settings.autoRestartInterval
}

// stop tells everybody to stop, those included who were told before.
func (s *supervisor) stop(sig syscall.Signal) {
	order := syscall.SIGTERM
	if sig == syscall.SIGTERM {
		order = s.rules.signalOnTERM
	}
	all := s.workers()
	s.out.log(msgReceivedStop(process.SignalName(sig), process.SignalName(order), pids(all)))
	s.Phase, s.Current, s.Candidate = stopping, nil, nil
	s.Old = nil
	for _, w := range all {
		if w.Dead { // told of by the original, which has not waited for it yet
			s.out.log(msgWorkerDied(w.PID, w.Status))
			s.out.forget(w.PID)
			continue
		}
		s.Old = append(s.Old, w)
		s.tell(w, order)
	}
	s.notify("STOPPING=1")
	s.finish()
}

func (s *supervisor) finish() {
	if len(s.Old) == 0 {
		s.Phase = stopped
		s.out.log(msgExiting)
	}
}

// tell tells a worker to stop. A deadline that it has already stays.
func (s *supervisor) tell(w *worker, sig syscall.Signal) {
	w.Told = true
	if s.rules.killTimeout > 0 && w.KillAt == 0 {
		w.KillAt = s.now + s.rules.killTimeout
	}
	s.out.signal(w.PID, sig)
}

func (s *supervisor) killOverdue() {
	for _, w := range s.Old {
		if w.KillAt > 0 && s.now >= w.KillAt {
			w.KillAt = 0
			s.out.log(msgKillTimeout(w.PID, s.rules.killTimeout))
			s.out.signal(w.PID, syscall.SIGKILL)
		}
	}
}

// gone is what everybody is told when a worker has died.
func (s *supervisor) gone(w *worker) {
	s.out.forget(w.PID)
	if w.Started {
		s.writeStatus()
	}
	s.notify("")
}

func (s *supervisor) writeStatus() {
	var list []statusfile.Worker
	for _, w := range s.workers() {
		if w.Started {
			list = append(list, statusfile.Worker{Generation: w.Generation, PID: w.PID})
		}
	}
	s.out.writeStatus(list)
}

// notify tells the service manager what is new and, in words, how things are.
func (s *supervisor) notify(what string) {
	if what != "" {
		what += "\n"
	}
	s.out.notify(what + "STATUS=" + s.describe())
}

// workers are all of them, oldest first.
func (s *supervisor) workers() []*worker {
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

// untold are the old workers that were not told to stop yet.
func (s *supervisor) untold() []*worker {
	return slices.DeleteFunc(slices.Clone(s.Old), func(w *worker) bool { return w.Told })
}

// old is the old worker with that pid, or nil.
func (s *supervisor) old(pid int) *worker {
	for _, w := range s.Old {
		if w.PID == pid {
			return w
		}
	}
	return nil
}

func byGeneration(a, b *worker) int { return cmp.Compare(a.Generation, b.Generation) }

func pids(workers []*worker) []int {
	list := make([]int, len(workers))
	for i, w := range workers {
		list[i] = w.PID
	}
	return list
}
