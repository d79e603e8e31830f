package starter

import (
	"context"
	"os"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/status"
	"github.com/start-server/start-server/internal/supervisor"
	"github.com/start-server/start-server/internal/workers"
)

// system is everything that the loop uses, besides waiting.
type system interface {
	supervisor.Effects
	// Reap returns a worker that has died. ok is false if there is none.
	Reap() (pid, status int, ok bool)
	// StepDone is called at the end of every step.
	StepDone()
	// OnCopy handles the report of a worker on one of its processes.
	OnCopy(worker int, report string)
	// RunPending does what the parts have to do later, without an event of the loop, and returns the
	// time until it has to be called again, deadline.Never if only an event can tell.
	RunPending() time.Duration
	// FinishUpgrade becomes the executable of an upgrade that has been checked. It returns false if
	// none has been, and true if that has failed.
	FinishUpgrade() bool
}

// loop passes events to the supervisor. Its goroutine owns the supervisor and every other part of
// the superdaemon.
type loop struct {
	*supervisor.Supervisor
	system  system
	signals signals.Channels
	notices chan workers.Notice
	restart <-chan struct{} // requests a restart, like a HUP; may be nil
	wake    chan struct{}   // wakes the loop from another goroutine, to call runPending
	epoch   time.Time       // when the clock of the supervisor was 0
	first   func()          // the event of the first step
}

func newLoop(s *supervisor.Supervisor, on system, received signals.Channels) *loop {
	l := &loop{Supervisor: s, system: on, signals: received, epoch: time.Now()}
	l.notices, l.wake = make(chan workers.Notice), make(chan struct{}, 1)
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
	for l.Phase != supervisor.Stopped {
		event := func() {}
		sig := func(sig os.Signal) { event = func() { l.OnSignal(sig.(syscall.Signal)) } }
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
		pid, status, ok := l.system.Reap()
		if !ok {
			break
		}
		l.OnExit(pid, status)
	}
	event()
	l.OnTimer()
	l.system.StepDone()
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
	l.BeginStep(now.Sub(l.epoch), status.Timestamp(now))
}

// begin starts the first worker, unless a signal to stop was received.
func (l *loop) begin() {
	select {
	case sig := <-l.signals.Stop:
		l.OnSignal(sig.(syscall.Signal))
	default:
		l.StartWorker()
	}
}

// adopt passes the workers that another superdaemon left to the supervisor. This happens before the
// first step, which may reap one of them.
func (l *loop) adopt(left []*supervisor.Worker) {
	l.beginStep()
	l.Adopt(left)
}

// resume acts on what the previous superdaemon received but did not act on.
func (l *loop) resume(received []syscall.Signal, notices []workers.Notice) {
	for _, n := range notices {
		l.onNotice(n)
	}
	for _, sig := range received {
		l.OnSignal(sig)
	}
}

func (l *loop) onNotice(n workers.Notice) {
	if n.HasStatus {
		l.OnStatus(n.PID, n.Status)
	}
	if n.Extend > 0 {
		l.OnExtend(n.PID, n.Extend)
	}
	if n.Process != "" {
		l.system.OnCopy(n.PID, n.Process)
	}
	switch r := n.Accepting; {
	case r == nil && !n.Ready:
	case r == nil || r.Unseen == "" && len(r.Missing) == 0:
		l.OnReady(n.PID)
	case r.Unseen != "":
		l.OnUnseen(n.PID, r.Unseen)
	default:
		l.OnMissing(n.PID, r.Missing)
	}
}

// setTimer sets the timer for the next deadline, if there is one.
func (l *loop) setTimer(timer *time.Timer) {
	timer.Stop()
	wait := l.system.RunPending()
	for l.system.FinishUpgrade() {
		wait = l.system.RunPending()
	}
	if at := l.NextDeadline(); at != deadline.Never {
		wait = min(wait, max(at-time.Since(l.epoch), 1))
	}
	if wait != deadline.Never {
		timer.Reset(wait)
	}
}
