package starter

import (
	"cmp"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/status"
)

// phase is what the superdaemon is about to do next.
type phase int

const (
	starting phase = iota // a worker is starting, or will be started after a pause: until Deadline
	running               // the current worker serves
	delaying              // the new worker serves, the old ones are signalled to stop at Deadline
	stopping              // all workers were signalled to stop
	stopped               // all workers have ended
)

// retryPause is the shortest time between attempts to start a worker. With an interval of 0 the
// original has none.
const retryPause = 100 * time.Millisecond

// A worker is a process that was started to serve.
type worker struct {
	PID        int           `json:"pid"`
	Generation int           `json:"generation"`
	Started    bool          `json:"started"`     // it was alive after the interval, or has sent READY=1
	Dead       bool          `json:"dead"`        // a candidate that died before the end of its start
	Status     int           `json:"status"`      // raw wait status if Dead; statusUnknown if it is not a child
	StopSent   bool          `json:"stop_sent"`   // a signal to stop was sent
	KillAt     time.Duration `json:"kill_at"`     // when to send KILL; 0 for never
	StatusText string        `json:"status_text"` // its last STATUS=
	Since      time.Time     `json:"since"`       // when its state last changed: starting, serving, stopping

	Missing []string `json:"missing,omitempty"` // while it starts: sockets on which it does not accept connections yet
	Unseen  string   `json:"unseen,omitempty"`  // why that cannot be seen: then the interval decides
}

// statusUnknown is the status of a worker that is not a child.
const statusUnknown = -1

// rules are the options that the supervisor follows. They never change.
type rules struct {
	interval     time.Duration
	readiness    readiness
	startTimeout time.Duration // until a worker must have shown that it has started; not for byInterval
	killTimeout  time.Duration // 0: no worker is ever killed
	stopFirst    bool          // a new worker is started after the old ones have ended
	stopDelay    time.Duration // between a signal to stop and the signal to the workers
	maxAttempts  int           // failed attempts until a restart, or the first start, is given up; 0: never
	signalOnHUP  stopSignal
	signalOnTERM stopSignal
	hints        hints
}

// readiness is how a worker shows that it has started.
type readiness int

const (
	byInterval  readiness = iota // it is alive after the interval (Server::Starter 0.35)
	byNotice                     // it sends READY=1 (sd_notify(3))
	byAccepting                  // it waits for connections on its sockets
)

// stopSignal is a signal that stops a worker, with the name that log lines have for it: the
// original logs a signal as it was given, a number for a number.
type stopSignal struct {
	syscall.Signal
	name string
}

var sigTERM = stopSignal{syscall.SIGTERM, "TERM"}

// hints decides which hints for new users apply.
type hints struct {
	sockets bool // there are sockets for the worker
	dir     bool // the worker runs in a directory that may be missing
	oneWord bool // the program and its arguments look like one word
}

// settings are the present values of options that the environment and the envdir can change.
type settings struct {
	autoRestart         bool
	autoRestartInterval time.Duration
	killOldDelay        time.Duration
}

// effects is everything that the supervisor can do.
type effects interface {
	start(generation int) (pid int, err error)
	signal(pid int, sig syscall.Signal)
	executed(pid int) bool // reports whether a worker has executed its program
	forget(pid int)        // a worker is gone
	writeStatus(workers []status.Worker)
	reopenLog()
	logLine(line string)
	notify(state string) // notify the service manager, by sd_notify(3)
	startUpgrade()       // upgrade the superdaemon, for USR2
	emit(e Event)        // call Config.OnEvent
}

// state is the state of the supervisor. It crosses upgrades, so times are durations since the first
// superdaemon of this process started.
type state struct {
	Phase          phase         `json:"phase"`
	Generation     int           `json:"generation"`
	Candidate      *worker       `json:"candidate"`       // is starting; nil in the pause before the next attempt
	Current        *worker       `json:"current"`         // serves; nil if none does
	Old            []*worker     `json:"old"`             // all other living workers
	RestartPending bool          `json:"restart_pending"` // a HUP was received and not acted on yet
	SocketReplaced bool          `json:"socket_replaced"` // after the latest worker was started
	Restarting     bool          `json:"restarting"`      // a restart is under way: stop the old workers at its end
	ReadySent      bool          `json:"ready_sent"`      // the service manager has got READY=1
	LastStartAt    time.Duration `json:"last_start_at"`   // when the latest worker was started
	StartedAt      time.Duration `json:"started_at"`      // when the latest worker had started, for the auto restart
	Deadline       time.Duration `json:"deadline"`        // when the phases starting and delaying end
	Restart        restart       `json:"restart"`         // the latest one

	Failed failedAttempts `json:"failed"` // none if the latest has not failed

	FirstStep time.Time `json:"first_step"` // when the first superdaemon of this process began

	StopAt     time.Duration  `json:"stop_at"`     // when to stop the workers, after a signal to stop; 0 for none
	StopSignal syscall.Signal `json:"stop_signal"` // that signal
}

// supervisor makes the decisions. It has no goroutine and no clock, and makes no system calls: the
// loop passes it one event at a time, and it acts through effects.
type supervisor struct {
	state
	rules    rules
	settings settings
	now      time.Duration
	wall     time.Time // now by the time of day, for the JSON status only
	out      effects
	failure  error // why the superdaemon ends, if not by a signal
}

func newSupervisor(r rules, out effects) *supervisor {
	return &supervisor{rules: r, out: out, state: state{Restart: restart{Result: inProgress}}}
}

// beginStep begins a step of the loop with the time, by the supervisor's clock and as the time of
// day, and the present settings.
func (s *supervisor) beginStep(now time.Duration, wall time.Time, current settings) {
	s.now, s.wall, s.settings = now, status.Timestamp(wall), current
	if s.FirstStep.IsZero() {
		s.FirstStep = s.wall
	}
}

// adopt makes the workers that another superdaemon left the old workers, before the first worker is
// started. Generations continue from the newest of them.
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

// onSignal handles a signal that the superdaemon received.
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
		case stopping, stopped: // all workers were signalled already
		}
	case syscall.SIGUSR2:
		switch s.Phase {
		case starting, running, delaying:
			s.out.emit(UpgradeRequested{})
			s.out.startUpgrade()
		case stopping, stopped:
		}
	case syscall.SIGALRM: // the timer of the original
	default:
		s.out.logLine(msgIgnored(process.SignalName(sig)))
	}
}

// onSocketReplaced handles that a socket was shut down and a new one bound in its place: no worker
// has that one yet.
func (s *supervisor) onSocketReplaced() { s.SocketReplaced = true }

// onExit handles the death of a worker. It ignores other children (orphans, if this is process 1).
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
	if s.Phase == starting { // a new worker is starting already
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

// onReady handles READY=1 from a worker, or that it waits for connections on every socket.
func (s *supervisor) onReady(pid int) {
	if s.isStarting(pid) {
		s.startSucceeded()
	}
}

// onMissing handles that a worker does not wait for connections on some of its sockets yet.
func (s *supervisor) onMissing(pid int, keys []string) {
	if s.isStarting(pid) {
		s.Candidate.Missing = keys
		s.notify("")
	}
}

// onUnseen handles that it cannot be seen whether a worker waits for connections: then the interval
// decides.
func (s *supervisor) onUnseen(pid int, why string) {
	if !s.isStarting(pid) || s.Candidate.Unseen != "" {
		return
	}
	s.Candidate.Unseen, s.Candidate.Missing = why, nil
	s.out.logLine(msgUnseen(pid, why))
	s.Deadline = s.LastStartAt + s.rules.interval
}

func (s *supervisor) isStarting(pid int) bool {
	c := s.Candidate
	return s.Phase == starting && c != nil && c.PID == pid && !c.Dead
}

// onExtend handles EXTEND_TIMEOUT_USEC from a worker: its deadline to start or to stop is at least
// by from now.
func (s *supervisor) onExtend(pid int, by time.Duration) {
	switch c, old := s.Candidate, s.findOld(pid); {
	case c != nil && c.PID == pid && !c.Dead:
		s.Deadline = max(s.Deadline, s.now+by)
	case old != nil && old.KillAt > 0:
		old.KillAt = max(old.KillAt, s.now+by)
	}
}

// onStatus handles STATUS= from a worker.
func (s *supervisor) onStatus(pid int, text string) {
	for _, w := range s.workers() {
		if w.PID == pid {
			w.StatusText = strings.Map(printable, text)
			s.notify("")
		}
	}
}

// printable drops characters that are not printable: the text may be shown on a terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}

// onTimer does everything that is due.
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
		switch {
		case s.RestartPending:
			s.startWorker()
		case s.SocketReplaced && s.StopAt == 0:
			s.out.logLine(msgSocketReplaced)
			s.beginRestart()
			s.startWorker()
		default:
			s.autoRestart()
		}
	case delaying:
		if s.now >= s.Deadline {
			s.stopOldWorkers()
		}
	case stopping, stopped:
	}
}

// nextDeadline returns when onTimer has something to do next, if there is anything.
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

// startWorker starts the next worker. It acts on all HUPs received until now.
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
	s.SocketReplaced = false
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
	if s.rules.readiness != byInterval {
		s.Deadline = s.now + s.rules.startTimeout
	}
	s.notify("")
	s.onTimer() // the interval may be 0
}

// retryAfter delays the next attempt until the given time after the start of the last one.
func (s *supervisor) retryAfter(d time.Duration) {
	s.Phase, s.Candidate = starting, nil
	s.Deadline = s.LastStartAt + d
	s.onTimer()
}

// finishStart decides at the deadline of a start whether it has succeeded, and starts a worker at
// the end of a pause.
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
	case s.rules.readiness != byInterval && c.Unseen == "":
		s.notInTime(c)
	case !s.out.executed(c.PID): // a busy machine: whether the program can be executed is not known yet
		s.Deadline = s.now + retryPause
	default:
		s.startSucceeded()
	}
}

// notInTime stops a candidate that has not shown in time that it has started.
func (s *supervisor) notInTime(c *worker) {
	name, timeout := s.rules.signalOnTERM.name, s.rules.startTimeout
	line, how := msgNotReady(c.PID, timeout, name), howNotReady(timeout)
	if s.rules.readiness == byAccepting {
		line, how = msgNotAccepting(c.PID, c.Missing, timeout, name), howNotAccepting(c.Missing, timeout)
	}
	s.out.logLine(line)
	s.hint(c)
	s.Old = append(s.Old, c)
	s.sendStop(c, s.rules.signalOnTERM.Signal)
	if !s.startFailed(c.PID, how) {
		s.retryAfter(max(s.rules.interval, retryPause))
	}
}

// hint logs a hint for new users, once: if no worker has ever started, and the second attempt has
// failed like the first.
func (s *supervisor) hint(c *worker) {
	if s.Generation != 2 || s.StartedAt > 0 {
		return
	}
	switch {
	case !c.Dead:
		if s.rules.readiness == byNotice {
			s.out.logLine(msgHintReady)
		}
	case c.Status == 0:
		s.out.logLine(msgHintForeground)
	case c.Status == process.StatusNotExecuted:
		if s.rules.hints.oneWord {
			s.out.logLine(msgHintOneWord)
		}
	case s.rules.hints.dir && process.MayBeDirectory(c.Status): // reported already
	case s.rules.hints.sockets:
		s.out.logLine(msgHintSockets)
	}
}

// startSucceeded makes the candidate the current worker.
func (s *supervisor) startSucceeded() {
	if s.Current != nil {
		s.Old = append(s.Old, s.Current)
	}
	s.Current, s.Candidate, s.Failed = s.Candidate, nil, failedAttempts{}
	s.Current.Started, s.Current.Missing, s.Current.Since = true, nil, s.wall
	s.StartedAt = s.now
	s.writeStatus()
	s.out.emit(WorkerReady{PID: s.Current.PID, Generation: s.Current.Generation})

	old := s.notYetStopped()
	if !s.Restarting && len(old) == 0 {
		s.enterRunning()
		return
	}
	s.out.logLine(msgNowRunning(s.rules.signalOnHUP.name, pids(old)))
	if delay := s.settings.killOldDelay; delay > 0 && !s.rules.stopFirst {
		s.out.logLine(msgSleeping(delay))
		s.Phase, s.Deadline = delaying, s.now+delay
		return
	}
	s.stopOldWorkers()
}

// stopOldWorkers signals every old worker to stop, except those that were signalled before: many
// servers drop their clients at a second TERM.
func (s *supervisor) stopOldWorkers() {
	s.out.logLine(msgKillingOld)
	for _, w := range s.notYetStopped() {
		s.sendStop(w, s.rules.signalOnHUP.Signal)
	}
	s.Restarting = false
	s.enterRunning()
}

// enterRunning enters the phase running, at the end of every successful start.
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

// autoRestart begins a restart when the automatic one is due.
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

// autoRestartAfter returns the time from the start of the current worker to the next automatic
// restart: twice the interval if there is still an old worker.
func (s *supervisor) autoRestartAfter() time.Duration {
	if len(s.Old) > 0 {
		return 2 * s.settings.autoRestartInterval
	}
	return s.settings.autoRestartInterval
}

// stop handles a signal to stop.
func (s *supervisor) stop(sig syscall.Signal) {
	order := sigTERM
	if sig == syscall.SIGTERM {
		order = s.rules.signalOnTERM
	}
	s.out.logLine(msgReceivedStop(process.SignalName(sig), order.name, pids(s.workers())))
	s.stopAll(order.Signal)
}

// stopAll signals every worker to stop, including those that were signalled before.
func (s *supervisor) stopAll(order syscall.Signal) {
	all := s.workers()
	s.endRestart(cancelled)
	if s.StopAt == 0 { // otherwise it was emitted when the delay began
		s.out.emit(Stopping{})
	}
	s.Phase, s.Current, s.Candidate = stopping, nil, nil
	s.Old = nil
	for _, w := range all {
		if w.Dead { // the original, which has not reaped it yet, logs this too
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

// sendStop signals a worker to stop. If it has a deadline already, that stays.
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

// workerGone updates the status file and notifies the service manager after the death of a worker.
func (s *supervisor) workerGone(w *worker) {
	s.out.forget(w.PID)
	if w.Started {
		s.writeStatus()
	}
	s.notify("")
}

func (s *supervisor) writeStatus() { s.out.writeStatus(s.startedWorkers()) }

// startedWorkers returns the workers in the status file.
func (s *supervisor) startedWorkers() (list []status.Worker) {
	for _, w := range s.workers() {
		if w.Started {
			list = append(list, status.Worker{Generation: w.Generation, PID: w.PID})
		}
	}
	return list
}

// notify sends a state, if it is not "", and a description to the service manager.
func (s *supervisor) notify(state string) {
	if state != "" {
		state += "\n"
	}
	s.out.notify(state + "STATUS=" + s.describe())
}

// workers returns all workers, oldest first.
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

// notYetStopped returns the old workers that were not signalled to stop yet.
func (s *supervisor) notYetStopped() []*worker {
	return slices.DeleteFunc(slices.Clone(s.Old), func(w *worker) bool { return w.StopSent })
}

// findOld returns the old worker with this pid, or nil.
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
