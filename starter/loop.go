package starter

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/signals"
)

// runtime is everything that the loop can do and ask, besides waiting.
type runtime interface {
	effects
	// currentSettings are read again in every step.
	currentSettings() settings
	// reap returns a child that has died, unless it is not a worker.
	reap() (pid, status int, ok bool)
	// stepDone is called at the end of every step.
	stepDone()
	pending
}

// loop turns what happens into the supervisor's events. Its goroutine owns the supervisor and
// everything that the superdaemon consists of.
type loop struct {
	*supervisor
	runtime runtime
	signals signals.Channels
	notices chan notice
	restart <-chan struct{} // asks for what a HUP does; nil if only signals do
	wake    chan struct{}   // something happened in another goroutine, for runPending to see
	epoch   time.Time       // when the clock of the supervisor stood at 0
	first   func()          // what the first step does
}

func newLoop(s *supervisor, r runtime, received signals.Channels) *loop {
	l := &loop{supervisor: s, runtime: r, signals: received, epoch: time.Now()}
	l.notices, l.wake = make(chan notice), make(chan struct{}, 1)
	l.first = l.begin
	return l
}

// wakeUp makes the loop call runPending soon. It never waits, and any goroutine may call it.
func (l *loop) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default: // it is about to wake up
	}
}

// run runs until every worker was told to stop and has ended. The end of ctx counts as a TERM.
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

// step makes the supervisor act on what has happened. Deaths come first, so that everything is
// decided on knowing which workers live.
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

// received takes what the loop was asked for and has not acted on.
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

// begin starts the first worker, unless a stop came before.
func (l *loop) begin() {
	select {
	case sig := <-l.signals.Stop:
		l.onSignal(sig.(syscall.Signal))
	default:
		l.startWorker()
	}
}

// adopt begins with the workers that another superdaemon left. The supervisor knows them from now on:
// one may end before the first step, which reaps.
func (l *loop) adopt(left []*worker) {
	l.beginStep()
	l.supervisor.adopt(left)
}

// resume acts on what the previous superdaemon received and did not act on.
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
	if n.Ready {
		l.onReady(n.PID)
	}
}

// setTimer sets the timer to when something is due, if anything is.
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
