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
	PID        int           `json:"pid"`
	Generation int           `json:"generation"`
	Started    bool          `json:"started"`     // has served: it was alive after the interval, or said that it is ready
	Dead       bool          `json:"dead"`        // a candidate that died before it was decided on
	Status     int           `json:"status"`      // raw wait status, where Dead; statusUnknown for one that is no child
	StopSent   bool          `json:"stop_sent"`   // was told to stop
	KillAt     time.Duration `json:"kill_at"`     // when it gets KILL; 0 for never
	StatusText string        `json:"status_text"` // its last STATUS=
	Since      time.Time     `json:"since"`       // when it was started, has started or was told to stop, the latest of these
}

// statusUnknown stands for the wait status of a worker that is not a child.
const statusUnknown = -1

// rules are what the operator asked for at the start.
type rules struct {
	interval     time.Duration
	readyTimeout time.Duration // 0: a worker that is alive after the interval has started
	killTimeout  time.Duration // 0: nobody is ever killed
	stopFirst    bool          // the old workers are gone before a new one is started
	stopDelay    time.Duration // between a signal to stop and the signal to the workers
	maxAttempts  int           // of a restart or the first start, until it is given up; 0: never
	signalOnHUP  syscall.Signal
	signalOnTERM syscall.Signal
	sockets      bool // there are sockets to be taken over by the worker
	dir          bool // the worker runs in a directory that may be missing
	oneWord      bool // the program and its arguments look like one word
}

// settings are what the environment and the envdir say at the moment.
type settings struct {
	autoRestart         bool
	autoRestartInterval time.Duration
	killOldDelay        time.Duration
}

// effects is everything that the supervisor can do to the world.
type effects interface {
	start(generation int) (pid int, err error)
	signal(pid int, sig syscall.Signal)
	forget(pid int) // a worker is gone
	writeStatus(workers []statusfile.Worker)
	reopenLog()
	logLine(line string)
	notify(state string) // tells the service manager, by sd_notify(3)
	startUpgrade()       // USR2: replace the superdaemon
	emit(e Event)        // tells the program that this package is embedded in
}

// state is all that the supervisor knows. It is what a superdaemon that is
// replaced by USR2 leaves to its successor, times as durations since the
// first of them started.
type state struct {
	Phase          phase         `json:"phase"`
	Generation     int           `json:"generation"`
	Candidate      *worker       `json:"candidate"`       // is being started; nil in the pause before the next attempt
	Current        *worker       `json:"current"`         // serves; nil while nobody does
	Old            []*worker     `json:"old"`             // everybody else who still lives
	RestartPending bool          `json:"restart_pending"` // a HUP waits to be acted on
	Restarting     bool          `json:"restarting"`      // a restart was asked for, the old ones are told to stop at its end
	ReadySent      bool          `json:"ready_sent"`      // the service manager was told that we are ready
	LastStartAt    time.Duration `json:"last_start_at"`   // when the latest worker was started
	StartedAt      time.Duration `json:"started_at"`      // when the latest worker had started, for the auto restart
	Deadline       time.Duration `json:"deadline"`        // when the phases starting and delaying are over
	Restart        restart       `json:"restart"`         // the latest one that was asked for

	FirstStep time.Time `json:"first_step"` // when the first superdaemon of this process began

	StopAt     time.Duration  `json:"stop_at"`     // when workers are told to stop, after a signal to stop; 0: none came
	StopSignal syscall.Signal `json:"stop_signal"` // that signal
}

// supervisor decides. It has no goroutine, no clock and makes no system call:
// the loop tells it what happened, one event at a time, and it answers by
// what it does to outside.
type supervisor struct {
	state
	rules    rules
	settings settings
	now      time.Duration
	wall     time.Time // now by the time of day, for the JSON status only
	out      effects
	failure  error // why the superdaemon ends, if it was not told to
}

func newSupervisor(r rules, out effects) *supervisor {
	return &supervisor{rules: r, out: out, state: state{Restart: restart{Result: inProgress}}}
}

// beginStep begins a step of the loop: what the time is, by the supervisor's clock and as the time of day, and
// what is asked for now.
func (s *supervisor) beginStep(now time.Duration, wall time.Time, current settings) {
	s.now, s.wall, s.settings = now, statusfile.Timestamp(wall), current
	if s.FirstStep.IsZero() {
		s.FirstStep = s.wall
	}
}

// adopt makes the workers that a superdaemon left the old workers, before the first worker is
// started. Generations count on from the newest of them.
func (s *supervisor) adopt(left []*worker) {
	for _, w := range left {
		w.Started = true
		if w.StopSent && s.rules.killTimeout > 0 {
			w.KillAt = s.now + s.rules.killTimeout
		}
		s.Generation = max(s.Generation, w.Generation)
		s.out.emit(WorkerAdopted{PID: w.PID, Generation: w.Generation})
	}
	s.Old, s.StartedAt = left, s.now
	s.writeStatus()
	if s.serving() != nil && !s.rules.stopFirst {
		s.ReadySent = true
		s.notify("READY=1")
	}
}

// onSignal answers a signal that the superdaemon received.
func (s *supervisor) onSignal(sig syscall.Signal) {
	switch sig {
	case syscall.SIGHUP:
		if s.StopAt > 0 {
			s.out.logLine(msgIgnored("HUP"))
			return
		}
		s.RestartPending = true // acted on when no start and no delay is under way: see onTimer
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
		switch s.Phase {
		case starting, running, delaying:
			s.requestStop(sig)
		case stopping, stopped: // everybody was told already
		}
	case syscall.SIGUSR2:
		switch s.Phase {
		case starting, running, delaying:
			s.out.emit(UpgradeRequested{})
			s.out.startUpgrade()
		case stopping, stopped:
		}
	case syscall.SIGALRM: // the original's own timer
	default:
		s.out.logLine(msgIgnored(process.SignalName(sig)))
	}
}

// onExit answers the death of a child. Children that are no workers (orphans
// that PID 1 inherits) are none of its business.
func (s *supervisor) onExit(pid, status int) {
	for _, w := range s.workers() {
		if w.PID == pid {
			s.out.emit(WorkerDied{PID: pid, Generation: w.Generation, Status: status, Stopped: w.StopSent})
		}
	}
	switch old := s.findOld(pid); {
	case s.Candidate != nil && s.Candidate.PID == pid:
		s.Candidate.Dead, s.Candidate.Status = true, status
		s.Deadline = s.LastStartAt + max(s.rules.interval, retryPause)
	case s.Current != nil && s.Current.PID == pid:
		s.currentExited(status)
	case old != nil:
		s.Old = slices.DeleteFunc(s.Old, func(w *worker) bool { return w == old })
		switch {
		case s.Phase == stopping:
			s.out.logLine(msgWorkerDied(pid, status))
		case old.Started:
			s.out.logLine(msgOldDied(pid, status))
		default:
			s.out.logLine(msgFailedToStart(pid, status))
		}
		s.workerGone(old)
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
		s.out.logLine(msgOldDied(w.PID, status))
		s.workerGone(w)
		return
	}
	s.out.logLine(msgDiedUnexpectedly(w.PID, status))
	s.workerGone(w)
	if s.Phase == delaying && s.attemptFailed(describeStatus(status)) {
		return
	}
	s.retryAfter(retryPause)
}

// onReady answers READY=1 from a worker.
func (s *supervisor) onReady(pid int) {
	if c := s.Candidate; s.Phase == starting && c != nil && c.PID == pid && !c.Dead {
		s.startSucceeded()
	}
}

// onExtend answers EXTEND_TIMEOUT_USEC from a worker: what it was given time for
// ends no sooner than by from now.
func (s *supervisor) onExtend(pid int, by time.Duration) {
	switch c, old := s.Candidate, s.findOld(pid); {
	case c != nil && c.PID == pid && !c.Dead:
		s.Deadline = max(s.Deadline, s.now+by)
	case old != nil && old.KillAt > 0:
		old.KillAt = max(old.KillAt, s.now+by)
	}
}

// onStatus answers STATUS= from a worker.
func (s *supervisor) onStatus(pid int, words string) {
	for _, w := range s.workers() {
		if w.PID == pid {
			w.StatusText = strings.Map(printable, words)
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

// onTimer does what is due.
func (s *supervisor) onTimer() {
	s.killOverdue()
	if s.stopDue() {
		s.stop(s.StopSignal)
	}
	switch s.Phase {
	case starting:
		if s.now >= s.Deadline && !s.waitingForOld() {
			s.finishStart()
		}
	case running:
		if s.RestartPending {
			s.startWorker()
		} else {
			s.autoRestart()
		}
	case delaying:
		if s.now >= s.Deadline {
			s.stopOldWorkers()
		}
	case stopping, stopped:
	}
}

// nextDeadline says when passed has something to do next, if nothing else happens.
func (s *supervisor) nextDeadline() (at time.Duration, ok bool) {
	sooner := func(t time.Duration) {
		if !ok || t < at {
			at, ok = t, true
		}
	}
	switch s.Phase {
	case starting, delaying:
		if !s.waitingForOld() {
			sooner(s.Deadline)
		}
	case running:
		if s.settings.autoRestart && s.StopAt == 0 {
			sooner(s.StartedAt + s.autoRestartAfter())
		}
	case stopping, stopped:
	}
	if s.StopAt > 0 && s.Phase < stopping {
		sooner(s.StopAt)
	}
	for _, w := range s.Old {
		if w.KillAt > 0 {
			sooner(w.KillAt)
		}
	}
	return at, ok
}

// startWorker starts the next worker. It answers every HUP received until now.
func (s *supervisor) startWorker() {
	if s.RestartPending {
		s.RestartPending = false
		s.beginRestart()
		s.out.reopenLog()
		s.out.logLine(msgReceivedHUP)
	}
	if s.Restarting && s.ReadySent {
		s.ReadySent = false
		s.notify("RELOADING=1")
	}
	s.Phase, s.Candidate = starting, nil
	if s.stopFirst() {
		return
	}
	s.Generation++
	s.countAttempt()
	s.LastStartAt = s.now
	pid, err := s.out.start(s.Generation)
	if err != nil {
		s.out.logLine(msgNoWorker(err))
		if !s.startFailed(0, err.Error()) {
			s.retryAfter(max(s.rules.interval, retryPause))
		}
		return
	}
	s.Candidate = &worker{PID: pid, Generation: s.Generation, Since: s.wall}
	s.out.logLine(msgStartingWorker(pid))
	s.out.emit(WorkerStarted{PID: pid, Generation: s.Generation})
	s.Deadline = s.now + s.rules.interval
	if s.rules.readyTimeout > 0 {
		s.Deadline = s.now + s.rules.readyTimeout
	}
	s.notify("")
	s.onTimer() // an interval of 0 is over already
}

// retryAfter puts the next attempt off until so long after the latest one.
func (s *supervisor) retryAfter(d time.Duration) {
	s.Phase, s.Candidate = starting, nil
	s.Deadline = s.LastStartAt + d
	s.onTimer()
}

// finishStart is what happens at the end of the time that a worker is given to
// start, and at the end of a pause.
func (s *supervisor) finishStart() {
	c := s.Candidate
	switch {
	case c == nil:
		s.startWorker()
	case c.Dead:
		s.out.logLine(msgFailedToStart(c.PID, c.Status))
		s.out.forget(c.PID)
		s.hint(c)
		if !s.startFailed(c.PID, describeStatus(c.Status)) {
			s.startWorker()
		}
	case s.rules.readyTimeout > 0:
		s.out.logLine(msgNotReady(c.PID, s.rules.readyTimeout, process.SignalName(s.rules.signalOnTERM)))
		s.hint(c)
		s.Old = append(s.Old, c)
		s.sendStop(c, s.rules.signalOnTERM)
		if !s.startFailed(c.PID, howNotReady(s.rules.readyTimeout)) {
			s.retryAfter(max(s.rules.interval, retryPause))
		}
	default:
		s.startSucceeded()
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
		s.out.logLine(msgHintReady)
	case c.Status == 0:
		s.out.logLine(msgHintForeground)
	case c.Status == process.StatusNotExecuted:
		if s.rules.oneWord {
			s.out.logLine(msgHintOneWord)
		}
	case s.rules.dir && process.MayBeDirectory(c.Status): // reported already
	case s.rules.sockets:
		s.out.logLine(msgHintSockets)
	}
}

// startSucceeded makes the candidate the current worker.
func (s *supervisor) startSucceeded() {
	if s.Current != nil {
		s.Old = append(s.Old, s.Current)
	}
	s.Current, s.Candidate = s.Candidate, nil
	s.Current.Started, s.Current.Since = true, s.wall
	s.StartedAt = s.now
	s.writeStatus()
	s.out.emit(WorkerReady{PID: s.Current.PID, Generation: s.Current.Generation})

	untold := s.notYetStopped()
	if !s.Restarting && len(untold) == 0 {
		s.enterRunning()
		return
	}
	s.out.logLine(msgNowRunning(process.SignalName(s.rules.signalOnHUP), pids(untold)))
	if delay := s.settings.killOldDelay; delay > 0 && !s.rules.stopFirst {
		s.out.logLine(msgSleeping(delay))
		s.Phase, s.Deadline = delaying, s.now+delay
		return
	}
	s.stopOldWorkers()
}

// stopOldWorkers tells every old worker to stop who was not told before: to many
// servers a second TERM means "now", and requests are lost.
func (s *supervisor) stopOldWorkers() {
	s.out.logLine(msgKillingOld)
	for _, w := range s.notYetStopped() {
		s.sendStop(w, s.rules.signalOnHUP)
	}
	s.Restarting = false
	s.enterRunning()
}

// enterRunning is where every start that succeeded ends.
func (s *supervisor) enterRunning() {
	s.Phase = running
	s.endRestart(succeeded)
	if s.ReadySent || s.StopAt > 0 {
		s.notify("")
	} else {
		s.ReadySent = true
		s.notify("READY=1")
	}
	s.onTimer()
}

// autoRestart acts as on HUP when it is time.
func (s *supervisor) autoRestart() {
	interval := s.settings.autoRestartInterval
	if !s.settings.autoRestart || s.StopAt > 0 || s.now < s.StartedAt+s.autoRestartAfter() {
		return
	}
	if len(s.Old) == 0 {
		s.out.logLine(msgAutoRestart(interval))
	} else {
		s.out.logLine(msgAutoRestartForced(interval))
	}
	s.beginRestart()
	s.startWorker()
}

// autoRestartAfter is how long the current worker is left alone: twice as
// long where an old worker still lingers.
func (s *supervisor) autoRestartAfter() time.Duration {
	if len(s.Old) > 0 {
		return 2 * s.settings.autoRestartInterval
	}
	return s.settings.autoRestartInterval
}

// stop answers a signal to stop.
func (s *supervisor) stop(sig syscall.Signal) {
	order := syscall.SIGTERM
	if sig == syscall.SIGTERM {
		order = s.rules.signalOnTERM
	}
	s.out.logLine(msgReceivedStop(process.SignalName(sig), process.SignalName(order), pids(s.workers())))
	s.stopAll(order)
}

// stopAll sends every worker the signal to stop, also those that were sent one before.
func (s *supervisor) stopAll(order syscall.Signal) {
	all := s.workers()
	s.endRestart(cancelled)
	if s.StopAt == 0 { // else that was announced when the delay began
		s.out.emit(Stopping{})
	}
	s.Phase, s.Current, s.Candidate = stopping, nil, nil
	s.Old = nil
	for _, w := range all {
		if w.Dead { // told of by the original, which has not waited for it yet
			s.out.logLine(msgWorkerDied(w.PID, w.Status))
			s.out.forget(w.PID)
			continue
		}
		s.Old = append(s.Old, w)
		s.sendStop(w, order)
	}
	s.notify("STOPPING=1")
	s.finish()
}

func (s *supervisor) finish() {
	if len(s.Old) == 0 {
		s.Phase = stopped
		s.out.logLine(msgExiting)
	}
}

// sendStop tells a worker to stop. A deadline that it has already stays.
func (s *supervisor) sendStop(w *worker, sig syscall.Signal) {
	if !w.StopSent {
		w.StopSent, w.Since = true, s.wall
	}
	if s.rules.killTimeout > 0 && w.KillAt == 0 {
		w.KillAt = s.now + s.rules.killTimeout
	}
	s.signal(w, sig)
}

func (s *supervisor) signal(w *worker, sig syscall.Signal) {
	s.out.emit(WorkerStopped{PID: w.PID, Generation: w.Generation, Signal: sig})
	s.out.signal(w.PID, sig)
}

func (s *supervisor) killOverdue() {
	for _, w := range s.Old {
		if w.KillAt > 0 && s.now >= w.KillAt {
			w.KillAt = 0
			s.out.logLine(msgKillTimeout(w.PID, s.rules.killTimeout))
			s.signal(w, syscall.SIGKILL)
		}
	}
}

// workerGone is what everybody is told when a worker has died.
func (s *supervisor) workerGone(w *worker) {
	s.out.forget(w.PID)
	if w.Started {
		s.writeStatus()
	}
	s.notify("")
}

func (s *supervisor) writeStatus() { s.out.writeStatus(s.startedWorkers()) }

// startedWorkers returns the lines of the status file.
func (s *supervisor) startedWorkers() (list []statusfile.Worker) {
	for _, w := range s.workers() {
		if w.Started {
			list = append(list, statusfile.Worker{Generation: w.Generation, PID: w.PID})
		}
	}
	return list
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

// notYetStopped are the old workers that were not told to stop yet.
func (s *supervisor) notYetStopped() []*worker {
	return slices.DeleteFunc(slices.Clone(s.Old), func(w *worker) bool { return w.StopSent })
}

// findOld is the findOld worker with that pid, or nil.
func (s *supervisor) findOld(pid int) *worker {
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
