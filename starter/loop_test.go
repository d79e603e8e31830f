package starter

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/supervisor"
	"github.com/start-server/start-server/internal/waitstatus"
	"github.com/start-server/start-server/internal/workers"
)

var sigTERM = supervisor.StopSignal{Signal: syscall.SIGTERM, Name: "TERM"}

// fakeSystem is a system with fake processes, in the virtual time of synctest. It records log
// lines with the second in which they were written.
type fakeSystem struct {
	t        *testing.T
	loop     *loop
	began    time.Time
	settings supervisor.Settings
	lives    map[int]time.Duration // by generation: how long it lives; forever if it is not in the map
	executes map[int]time.Duration // by pid: when it executes its program; 0 for at once
	slow     time.Duration         // between the signal to stop and the end of a worker
	deaths   chan [2]int           // pid, status
	lines    []string
	events   []Event
	notified string // the last state
	starting func() error
}

func newFakeSystem(t *testing.T, r supervisor.Rules) *fakeSystem {
	p := &fakeSystem{t: t, began: time.Now(), lives: map[int]time.Duration{}, deaths: make(chan [2]int, 1000)}
	if r.SignalOnHUP == (supervisor.StopSignal{}) {
		r.SignalOnHUP, r.SignalOnTERM = sigTERM, sigTERM
	}
	p.loop = newLoop(supervisor.New(r, supervisor.Hints{}, p), p, signals.NewChannels())
	return p
}

// at calls a function at a time after the beginning.
func (p *fakeSystem) at(seconds float64, do func()) {
	time.AfterFunc(time.Duration(seconds*float64(time.Second)), do)
}

func (p *fakeSystem) hup()  { p.loop.signals.HUP <- syscall.SIGHUP }
func (p *fakeSystem) term() { p.loop.signals.Stop <- syscall.SIGTERM }

func (p *fakeSystem) sends(pid int, m sdnotify.Message) func() {
	return func() { p.loop.notices <- workers.Notice{PID: pid, Message: m} }
}

// run runs the loop until the stop, and compares the log lines with the script.
func (p *fakeSystem) run(script string) {
	p.t.Helper()
	p.loop.run(context.Background())
	got := strings.Join(p.lines, "\n")
	want := strings.ReplaceAll(strings.TrimSpace(script), "\t", "")
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("log (-want +got):\n%s", diff)
	}
}

// Processes: generation n has pid n.

func (p *fakeSystem) Start(generation int) (int, error) {
	if p.starting != nil {
		if err := p.starting(); err != nil {
			return 0, err
		}
	}
	if life, ok := p.lives[generation]; ok {
		p.dies(generation, life, 256)
	}
	return generation, nil
}

func (p *fakeSystem) dies(pid int, after time.Duration, status int) {
	after += time.Duration(pid) * time.Nanosecond // in the order of pids
	time.AfterFunc(after, func() {
		p.deaths <- [2]int{pid, status}
		select {
		case p.loop.signals.Child <- syscall.SIGCHLD:
		default: // one is pending
		}
	})
}

func (p *fakeSystem) Signal(pid int, sig syscall.Signal) {
	p.Log(fmt.Sprintf("(%d gets %v)", pid, sig))
	if sig == syscall.SIGKILL {
		p.dies(pid, 0, 9)
	} else {
		p.dies(pid, p.slow, 0)
	}
}

func (p *fakeSystem) Reap() (pid, status int, ok bool) {
	select {
	case death := <-p.deaths:
		return death[0], death[1], true
	default:
		return 0, 0, false
	}
}

func (p *fakeSystem) Log(line string) {
	p.lines = append(p.lines, fmt.Sprintf("%g %s", time.Since(p.began).Truncate(time.Millisecond).Seconds(), line))
}

func (p *fakeSystem) Settings() supervisor.Settings    { return p.settings }
func (p *fakeSystem) Emit(e supervisor.Event)          { p.events = append(p.events, publicEvent(e)) }
func (p *fakeSystem) StepDone()                        {}
func (p *fakeSystem) RunPending() time.Duration        { return deadline.Never }
func (p *fakeSystem) Executed(pid int) bool            { return time.Since(p.began) >= p.executes[pid] }
func (p *fakeSystem) Forget(int)                       {}
func (p *fakeSystem) WriteStatus([]*supervisor.Worker) {}
func (p *fakeSystem) ReopenLog()                       {}
func (p *fakeSystem) Notify(state string)              { p.notified = state }
func (p *fakeSystem) OnCopy(int, string)               {}
func (p *fakeSystem) FinishUpgrade() bool              { return false }
func (p *fakeSystem) StartUpgrade()                    {}

// TestAdoptedExits checks adopted workers that have ended before the loop begins.
func TestAdoptedExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second})
		p.loop.adopt([]*supervisor.Worker{{PID: 7, Generation: 7}, {PID: 8, Generation: 8, StopSent: true}})
		p.deaths <- [2]int{7, waitstatus.Unknown}
		p.deaths <- [2]int{8, waitstatus.Unknown}
		p.at(20, p.term)
		p.run(`
		0 old worker 7 died, status:unknown
		0 old worker 8 died, status:unknown
		0 starting new worker 9
		20 received TERM, sending TERM to all workers:9
		20 (9 gets terminated)
		20 worker 9 died, status:0
		20 exiting`)
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second})
		p.slow = 3 * time.Second
		p.at(10, p.hup)
		p.at(20, p.term)
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 starting new worker 2
		11 new worker is now running, sending TERM to old workers:1
		11 killing old workers
		11 (1 gets terminated)
		14 old worker 1 died, status:0
		20 received TERM, sending TERM to all workers:2
		20 (2 gets terminated)
		23 worker 2 died, status:0
		23 exiting`)
	})
}

// TestNotExecutedYet checks that on a machine so busy that the program is not executed when the
// interval is over, the worker has not started: the program may not exist.
func TestNotExecutedYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second})
		p.executes = map[int]time.Duration{2: time.Hour, 3: 7350 * time.Millisecond}
		p.lives[2] = 3 * time.Second
		p.at(2, p.hup)
		p.at(10, p.term)
		p.run(`
			0 starting new worker 1
			2 received HUP, spawning a new worker
			2 starting new worker 2
			5 new worker 2 seems to have failed to start, exit status:256
			5 starting new worker 3
			7.4 new worker is now running, sending TERM to old workers:1
			7.4 killing old workers
			7.4 (1 gets terminated)
			7.4 old worker 1 died, status:0
			10 received TERM, sending TERM to all workers:3
			10 (3 gets terminated)
			10 worker 3 died, status:0
			10 exiting`)
	})
}

func TestFailingStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: 2 * time.Second})
		p.lives[2], p.lives[3] = time.Second, 0
		p.at(10, p.hup)
		p.at(11.5, p.hup) // while a start is under way
		p.at(15.5, p.term)
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 starting new worker 2
		12 new worker 2 seems to have failed to start, exit status:256
		12 received HUP, spawning a new worker
		12 starting new worker 3
		14 new worker 3 seems to have failed to start, exit status:256
		14 starting new worker 4
		15.5 received TERM, sending TERM to all workers:1,4
		15.5 (1 gets terminated)
		15.5 (4 gets terminated)
		15.5 worker 1 died, status:0
		15.5 worker 4 died, status:0
		15.5 exiting`)
	})
}

func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, MaxAttempts: 2})
		p.lives[2], p.lives[3] = 0, 0
		p.lives[4] = 0
		p.at(10, p.hup)
		p.at(20, p.hup) // tries again
		p.at(30, p.term)
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 starting new worker 2
		11 new worker 2 seems to have failed to start, exit status:256
		11 starting new worker 3
		12 new worker 3 seems to have failed to start, exit status:256
		12 giving up the restart after 2 failed attempts (generation 3: exit status 1), generation 1 (pid 1) keeps serving
		20 received HUP, spawning a new worker
		20 starting new worker 4
		21 new worker 4 seems to have failed to start, exit status:256
		21 starting new worker 5
		22 new worker is now running, sending TERM to old workers:1
		22 killing old workers
		22 (1 gets terminated)
		22 old worker 1 died, status:0
		30 received TERM, sending TERM to all workers:5
		30 (5 gets terminated)
		30 worker 5 died, status:0
		30 exiting`)
	})
}

func TestGiveUpDuringDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, MaxAttempts: 1})
		p.settings.KillOldDelay = 5 * time.Second
		p.lives[2] = 3 * time.Second
		p.at(10, p.hup)
		p.at(20, p.term)
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 starting new worker 2
		11 new worker is now running, sending TERM to old workers:1
		11 sleeping 5 secs before killing old workers
		13 worker 2 died unexpectedly with status:256, restarting
		13 giving up the restart after 1 failed attempt (generation 2: exit status 1), generation 1 (pid 1) keeps serving
		20 received TERM, sending TERM to all workers:1
		20 (1 gets terminated)
		20 worker 1 died, status:0
		20 exiting`)
	})
}

// TestGiveUpWhileNoneServes checks that a restart is given up, but attempts continue until one
// succeeds.
func TestGiveUpWhileNoneServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, MaxAttempts: 2})
		p.lives[1] = 10500 * time.Millisecond
		p.lives[2], p.lives[3], p.lives[4] = 0, 0, 0
		p.at(10, p.hup)
		p.at(20, p.term)
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 starting new worker 2
		10.5 old worker 1 died, status:256
		11 new worker 2 seems to have failed to start, exit status:256
		11 starting new worker 3
		12 new worker 3 seems to have failed to start, exit status:256
		12 giving up the restart after 2 failed attempts (generation 3: exit status 1), but no worker is serving: still trying
		12 starting new worker 4
		13 new worker 4 seems to have failed to start, exit status:256
		13 starting new worker 5
		20 received TERM, sending TERM to all workers:5
		20 (5 gets terminated)
		20 worker 5 died, status:0
		20 exiting`)
	})
}

func TestGiveUpFirstStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, Readiness: supervisor.ByNotice, StartTimeout: 2 * time.Second, MaxAttempts: 2})
		p.slow = 3 * time.Second
		p.run(`
		0 starting new worker 1
		2 new worker 1 is not ready after 2 secs, sending TERM
		2 (1 gets terminated)
		2 starting new worker 2
		4 worker 1 is still there 2 secs after it was told to stop, sending KILL
		4 (1 gets killed)
		4 new worker 2 is not ready after 2 secs, sending TERM
		4 hint: with --ready-timeout the server must send READY=1 to $NOTIFY_SOCKET as soon as it can serve, see sd_notify(3)
		4 (2 gets terminated)
		4 giving up the start after 2 failed attempts (generation 2: not ready in 2 secs)
		4 (1 gets terminated)
		4 (2 gets terminated)
		4 worker 1 died, status:9
		6 worker 2 is still there 2 secs after it was told to stop, sending KILL
		6 (2 gets killed)
		6 worker 2 died, status:9
		6 exiting`)
		if err := p.loop.Failure; err == nil || err.Error() != "no worker has started in 2 attempts (generation 2: not ready in 2 secs)" {
			t.Error(err)
		}
	})
}

// TestHangingVersion checks that a version that is never ready and ignores TERM neither piles up nor
// keeps --stop-first waiting, without --kill-timeout.
func TestHangingVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{
			Interval: time.Second, Readiness: supervisor.ByNotice, StartTimeout: 5 * time.Second, StopFirst: true, MaxAttempts: 2,
		})
		p.slow = time.Hour
		p.at(0.25, p.sends(1, sdnotify.Message{Ready: true}))
		p.at(10, p.hup)
		p.at(11, func() { p.dies(1, 0, 0) })
		p.at(21.5, p.sends(3, sdnotify.Message{Ready: true}))
		p.at(40, p.term)
		p.at(50, func() { p.dies(3, 0, 0) })
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 sending TERM to old workers:1, starting a new worker when they are gone
		10 (1 gets terminated)
		11 old worker 1 died, status:0
		11 starting new worker 2
		16 new worker 2 is not ready after 5 secs, sending TERM
		16 (2 gets terminated)
		21 worker 2 is still there 5 secs after it was told to stop, sending KILL
		21 (2 gets killed)
		21 new worker 2 seems to have failed to start, exit status:9
		21 starting new worker 3
		21.5 new worker is now running, sending TERM to old workers:none
		21.5 killing old workers
		40 received TERM, sending TERM to all workers:3
		40 (3 gets terminated)
		50 worker 3 died, status:0
		50 exiting`)
	})
}

// TestMaxOldWorkers checks that the oldest of too many old workers get KILL.
func TestMaxOldWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := 1
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, MaxOldWorkers: &limit})
		p.slow = time.Hour
		for i := range 3 {
			p.at(float64(10*(i+1)), p.hup)
		}
		p.at(40, p.term)
		for pid := 3; pid <= 4; pid++ {
			p.at(float64(50), func() { p.dies(pid, 0, 0) })
		}
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 starting new worker 2
		11 new worker is now running, sending TERM to old workers:1
		11 killing old workers
		11 (1 gets terminated)
		20 received HUP, spawning a new worker
		20 starting new worker 3
		21 new worker is now running, sending TERM to old workers:2
		21 killing old workers
		21 (2 gets terminated)
		21 worker 1 is one of more than 1 old workers, sending KILL
		21 (1 gets killed)
		21 old worker 1 died, status:9
		30 received HUP, spawning a new worker
		30 starting new worker 4
		31 new worker is now running, sending TERM to old workers:3
		31 killing old workers
		31 (3 gets terminated)
		31 worker 2 is one of more than 1 old workers, sending KILL
		31 (2 gets killed)
		31 old worker 2 died, status:9
		40 received TERM, sending TERM to all workers:3,4
		40 (3 gets terminated)
		40 (4 gets terminated)
		50 worker 3 died, status:0
		50 worker 4 died, status:0
		50 exiting`)
	})
}

func TestDeathDuringDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second})
		p.settings.KillOldDelay = 5 * time.Second
		p.lives[2] = 3 * time.Second
		p.at(10, p.hup)
		p.at(18, p.term) // cuts the delay short
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 starting new worker 2
		11 new worker is now running, sending TERM to old workers:1
		11 sleeping 5 secs before killing old workers
		13 worker 2 died unexpectedly with status:256, restarting
		13 starting new worker 3
		14 new worker is now running, sending TERM to old workers:1
		14 sleeping 5 secs before killing old workers
		18 received TERM, sending TERM to all workers:1,3
		18 (1 gets terminated)
		18 (3 gets terminated)
		18 worker 1 died, status:0
		18 worker 3 died, status:0
		18 exiting`)
	})
}

func TestAutoRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second})
		p.settings = supervisor.Settings{AutoRestart: true, AutoRestartInterval: 10 * time.Second}
		p.slow = 15 * time.Second
		p.at(40, p.term)
		p.run(`
		0 starting new worker 1
		11 autorestart triggered (interval=10)
		11 starting new worker 2
		12 new worker is now running, sending TERM to old workers:1
		12 killing old workers
		12 (1 gets terminated)
		27 old worker 1 died, status:0
		27 autorestart triggered (interval=10)
		27 starting new worker 3
		28 new worker is now running, sending TERM to old workers:2
		28 killing old workers
		28 (2 gets terminated)
		40 received TERM, sending TERM to all workers:2,3
		40 (2 gets terminated)
		40 (3 gets terminated)
		43 worker 2 died, status:0
		55 worker 3 died, status:0
		55 exiting`)
	})
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, Readiness: supervisor.ByNotice, StartTimeout: 5 * time.Second, KillTimeout: 2 * time.Second})
		p.slow = time.Minute
		p.at(0.25, p.sends(1, sdnotify.Message{Ready: true}))
		p.at(10, p.hup)
		p.at(14, p.sends(2, sdnotify.Message{Extend: 3 * time.Second})) // until 17
		p.at(18, p.sends(2, sdnotify.Message{Ready: true}))             // too late
		p.at(18.5, p.sends(3, sdnotify.Message{Ready: true}))
		p.at(30, p.term)
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 starting new worker 2
		17 new worker 2 is not ready after 5 secs, sending TERM
		17 (2 gets terminated)
		17 starting new worker 3
		18.5 new worker is now running, sending TERM to old workers:1
		18.5 killing old workers
		18.5 (1 gets terminated)
		19 worker 2 is still there 2 secs after it was told to stop, sending KILL
		19 (2 gets killed)
		19 new worker 2 seems to have failed to start, exit status:9
		20.5 worker 1 is still there 2 secs after it was told to stop, sending KILL
		20.5 (1 gets killed)
		20.5 old worker 1 died, status:9
		30 received TERM, sending TERM to all workers:3
		30 (3 gets terminated)
		32 worker 3 is still there 2 secs after it was told to stop, sending KILL
		32 (3 gets killed)
		32 worker 3 died, status:9
		32 exiting`)
	})
}

func TestNoSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{})
		p.lives[1], p.lives[2] = 0, 0
		failures := 1
		p.starting = func() error {
			if p.loop.Generation == 3 && failures > 0 {
				failures--
				return syscall.EAGAIN
			}
			return nil
		}
		p.at(5, p.term)
		p.run(`
		0 starting new worker 1
		0 worker 1 died unexpectedly with status:256, restarting
		0.1 starting new worker 2
		0.1 worker 2 died unexpectedly with status:256, restarting
		0.2 failed to start a new worker: resource temporarily unavailable
		0.3 starting new worker 4
		5 received TERM, sending TERM to all workers:4
		5 (4 gets terminated)
		5 worker 4 died, status:0
		5 exiting`)
	})
}
