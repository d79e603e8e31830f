package starter

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/signals"
)

// runtime is everything that the loop uses, besides waiting.
type runtime interface {
	effects
	// currentSettings reads the settings. It is called in every step.
	currentSettings() settings
	// reap returns a worker that has died. ok is false if there is none.
	reap() (pid, status int, ok bool)
	// stepDone is called at the end of every step.
	stepDone()
	// onProcess handles the report of a worker on one of its processes.
	onProcess(worker int, report string)
	// runPending does what the parts have to do later, without an event of the loop, and returns the
	// time until it has to be called again, 0 for none.
	runPending() time.Duration
}

// loop passes events to the supervisor. Its goroutine owns the supervisor and every other part of
// the superdaemon.
type loop struct {
	*supervisor
	runtime runtime
	signals signals.Channels
	notices chan notice
	restart <-chan struct{} // requests a restart, like a HUP; may be nil
	wake    chan struct{}   // wakes the loop from another goroutine, to call runPending
	epoch   time.Time       // when the clock of the supervisor was 0
	first   func()          // the event of the first step
}

func newLoop(s *supervisor, r runtime, received signals.Channels) *loop {
	l := &loop{supervisor: s, runtime: r, signals: received, epoch: time.Now()}
	l.notices, l.wake = make(chan notice), make(chan struct{}, 1)
	l.first = l.begin
	return l
}

// wakeUp makes the loop call runPending soon. It never blocks, and any goroutine may call it.
func (l *loop) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default: // a wake-up is pending
	}
}

// run runs until a stop has ended every worker. The end of ctx counts as a TERM.
func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	l.step(l.first)
	l.setTimer(timer)
	done := ctx.Done()
	for l.Phase != stopped {
		event := func() {}
		sig := func(sig os.Signal) { event = func() { l.onSignal(sig.(syscall.Signal)) } }
		select {
		case s := <-l.signals.HUP:
			sig(s)
		case s := <-l.signals.Stop:
			sig(s)
		case s := <-l.signals.Upgrade:
			sig(s)
		case s := <-l.signals.Stray:
			sig(s)
		case <-l.restart:
			sig(syscall.SIGHUP)
		case <-l.signals.Child: // every step reaps
		case n := <-l.notices:
			event = func() { l.onNotice(n) }
		case <-l.wake:
		case <-timer.C:
		case <-done:
			done = nil
			sig(syscall.SIGTERM)
		}
		l.step(event)
		l.setTimer(timer)
	}
}

// step passes an event to the supervisor. Deaths come first, so that the supervisor knows which
// workers live when it decides.
func (l *loop) step(event func()) {
	l.beginStep()
	for {
		pid, status, ok := l.runtime.reap()
		if !ok {
			break
		}
		l.onExit(pid, status)
	}
	event()
	l.onTimer()
	l.runtime.stepDone()
}

// received removes and returns the signals that the loop has not acted on. A requested restart
// counts as a HUP.
func (l *loop) received() []syscall.Signal {
	waiting := l.signals.Drain()
	select {
	case <-l.restart:
		return append(waiting, syscall.SIGHUP)
	default:
		return waiting
	}
}

func (l *loop) beginStep() {
	now := time.Now()
	l.supervisor.beginStep(now.Sub(l.epoch), now, l.runtime.currentSettings())
}

// begin starts the first worker, unless a signal to stop was received.
func (l *loop) begin() {
	select {
	case sig := <-l.signals.Stop:
		l.onSignal(sig.(syscall.Signal))
	default:
		l.startWorker()
	}
}

// adopt passes the workers that another superdaemon left to the supervisor. This happens before the
// first step, which may reap one of them.
func (l *loop) adopt(left []*worker) {
	l.beginStep()
	l.supervisor.adopt(left)
}

// resume acts on what the previous superdaemon received but did not act on.
func (l *loop) resume(received []syscall.Signal, notices []notice) {
	for _, n := range notices {
		l.onNotice(n)
	}
	for _, sig := range received {
		l.onSignal(sig)
	}
}

func (l *loop) onNotice(n notice) {
	if n.HasStatus {
		l.onStatus(n.PID, n.Status)
	}
	if n.Extend > 0 {
		l.onExtend(n.PID, n.Extend)
	}
	if n.Process != "" {
		l.runtime.onProcess(n.PID, n.Process)
	}
	switch r := n.Accepting; {
	case r == nil && !n.Ready:
	case r == nil || r.Unseen == "" && len(r.Missing) == 0:
		l.onReady(n.PID)
	case r.Unseen != "":
		l.onUnseen(n.PID, r.Unseen)
	default:
		l.onMissing(n.PID, r.Missing)
	}
}

// setTimer sets the timer for the next deadline, if there is one.
func (l *loop) setTimer(timer *time.Timer) {
	timer.Stop()
	wait := l.runtime.runPending()
	if at, ok := l.nextDeadline(); ok {
		if until := max(at-time.Since(l.epoch), 1); wait == 0 || until < wait {
			wait = until
		}
	}
	if wait > 0 {
		timer.Reset(wait)
	}
}
