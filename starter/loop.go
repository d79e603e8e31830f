package starter

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/signals"
)

// runtime is all that the loop can do and ask, besides waiting.
type runtime interface {
	effects
	// currentSettings are read anew on every turn.
	currentSettings() settings
	// reap returns a child that has died, but for those that the system has
	// for itself.
	reap() (pid, status int, ok bool)
	// runPending does what is due besides the supervisor's work, and says how
	// long it can wait until it is called again, 0 for as long as nothing
	// happens.
	runPending() time.Duration
}

// notice is what a worker said on its NOTIFY_SOCKET.
type notice struct {
	PID int `json:"pid"`
	sdnotify.Message
}

// loop turns what happens into the supervisor's events. It is the one goroutine
// that owns the supervisor.
type loop struct {
	*supervisor
	sys     runtime
	signals signals.Channels
	notices chan notice
	epoch   time.Time // when the clock of the supervisor stood at 0
	first   func()    // what the first turn does
}

func newLoop(s *supervisor, sys runtime, received signals.Channels, notices chan notice) *loop {
	l := &loop{supervisor: s, sys: sys, signals: received, notices: notices, epoch: time.Now()}
	l.first = l.begin
	return l
}

// run runs until everybody was told to stop and is gone. The end of ctx counts
// as a TERM.
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
		case <-l.signals.Child: // every turn reaps
		case n := <-l.notices:
			event = func() { l.onNotice(n) }
		case <-timer.C:
		case <-done:
			done = nil
			sig(syscall.SIGTERM)
		}
		l.step(event)
		l.setTimer(timer)
	}
}

// step makes the supervisor act on what has happened. Deaths come first, so that
// everything is decided on knowing who lives.
func (l *loop) step(event func()) {
	l.supervisor.beginStep(time.Since(l.epoch), l.sys.currentSettings())
	for {
		pid, status, ok := l.sys.reap()
		if !ok {
			break
		}
		l.onExit(pid, status)
	}
	event()
	l.onTimer()
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

// resume goes on with what a predecessor received and did not act on.
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

// setTimer winds the timer to when something is due, if anything is.
func (l *loop) setTimer(timer *time.Timer) {
	timer.Stop()
	wait := l.sys.runPending()
	if at, ok := l.nextDeadline(); ok {
		if until := max(at-time.Since(l.epoch), 1); wait == 0 || until < wait {
			wait = until
		}
	}
	if wait > 0 {
		timer.Reset(wait)
	}
}
