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

	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/status"
)

// fakeRuntime is a runtime with fake processes, in the virtual time of synctest. It records log
// lines with the second in which they were written.
type fakeRuntime struct {
	t        *testing.T
	loop     *loop
	began    time.Time
	current  settings
	lives    map[int]time.Duration // by generation: how long it lives; forever if it is not in the map
	executes map[int]time.Duration // by pid: when it executes its program; 0 for at once
	slow     time.Duration         // between the signal to stop and the end of a worker
	deaths   chan [2]int           // pid, status
	lines    []string
	events   []Event
	starting func() error
}

func newFakeRuntime(t *testing.T, r rules) *fakeRuntime {
	p := &fakeRuntime{t: t, began: time.Now(), lives: map[int]time.Duration{}, deaths: make(chan [2]int, 1000)}
	if r.signalOnHUP == (stopSignal{}) {
		r.signalOnHUP, r.signalOnTERM = sigTERM, sigTERM
	}
	p.loop = newLoop(newSupervisor(r, p), p, signals.NewChannels())
	return p
}

// at calls a function at a time after the beginning.
func (p *fakeRuntime) at(seconds float64, do func()) {
	time.AfterFunc(time.Duration(seconds*float64(time.Second)), do)
}

func (p *fakeRuntime) hup()  { p.loop.signals.HUP <- syscall.SIGHUP }
func (p *fakeRuntime) term() { p.loop.signals.Stop <- syscall.SIGTERM }

func (p *fakeRuntime) sends(pid int, m sdnotify.Message) func() {
	return func() { p.loop.notices <- notice{PID: pid, Message: m} }
}

// run runs the loop until the stop, and compares the log lines with the script.
func (p *fakeRuntime) run(script string) {
	p.t.Helper()
	p.loop.run(context.Background())
	got := strings.Join(p.lines, "\n")
	want := strings.ReplaceAll(strings.TrimSpace(script), "\t", "")
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("log (-want +got):\n%s", diff)
	}
}

// Processes: generation n has pid n.

func (p *fakeRuntime) start(generation int) (int, error) {
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

func (p *fakeRuntime) dies(pid int, after time.Duration, status int) {
	after += time.Duration(pid) * time.Nanosecond // in the order of pids
	time.AfterFunc(after, func() {
		p.deaths <- [2]int{pid, status}
		select {
		case p.loop.signals.Child <- syscall.SIGCHLD:
		default: // one is pending
		}
	})
}

func (p *fakeRuntime) signal(pid int, sig syscall.Signal) {
	p.logLine(fmt.Sprintf("(%d gets %v)", pid, sig))
	if sig == syscall.SIGKILL {
		p.dies(pid, 0, 9)
	} else {
		p.dies(pid, p.slow, 0)
	}
}

func (p *fakeRuntime) reap() (pid, status int, ok bool) {
	select {
	case death := <-p.deaths:
		return death[0], death[1], true
	default:
		return 0, 0, false
	}
}

func (p *fakeRuntime) logLine(line string) {
	p.lines = append(p.lines, fmt.Sprintf("%g %s", time.Since(p.began).Truncate(time.Millisecond).Seconds(), line))
}

func (p *fakeRuntime) currentSettings() settings   { return p.current }
func (p *fakeRuntime) emit(e Event)                { p.events = append(p.events, e) }
func (p *fakeRuntime) stepDone()                   {}
func (p *fakeRuntime) runPending() time.Duration   { return 0 }
func (p *fakeRuntime) executed(pid int) bool       { return time.Since(p.began) >= p.executes[pid] }
func (p *fakeRuntime) forget(int)                  {}
func (p *fakeRuntime) onProcess(int, string)       {}
func (p *fakeRuntime) writeStatus([]status.Worker) {}
func (p *fakeRuntime) reopenLog()                  {}
func (p *fakeRuntime) notify(string)               {}
func (p *fakeRuntime) startUpgrade()               {}

// TestAdoptedExits checks adopted workers that have ended before the loop begins.
func TestAdoptedExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeRuntime(t, rules{interval: time.Second})
		p.loop.adopt([]*worker{{PID: 7, Generation: 7}, {PID: 8, Generation: 8, StopSent: true}})
		p.deaths <- [2]int{7, statusUnknown}
		p.deaths <- [2]int{8, statusUnknown}
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
		p := newFakeRuntime(t, rules{interval: time.Second})
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
		p := newFakeRuntime(t, rules{interval: time.Second})
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
		p := newFakeRuntime(t, rules{interval: 2 * time.Second})
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
		p := newFakeRuntime(t, rules{interval: time.Second, maxAttempts: 2})
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
		p := newFakeRuntime(t, rules{interval: time.Second, maxAttempts: 1})
		p.current.killOldDelay = 5 * time.Second
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
		p := newFakeRuntime(t, rules{interval: time.Second, maxAttempts: 2})
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
		p := newFakeRuntime(t, rules{interval: time.Second, readiness: byNotice, startTimeout: 2 * time.Second, maxAttempts: 2})
		p.slow = 3 * time.Second
		p.run(`
		0 starting new worker 1
		2 new worker 1 is not ready after 2 secs, sending TERM
		2 (1 gets terminated)
		2 starting new worker 2
		4 new worker 2 is not ready after 2 secs, sending TERM
		4 hint: with --ready-timeout the server must send READY=1 to $NOTIFY_SOCKET as soon as it can serve, see sd_notify(3)
		4 (2 gets terminated)
		4 giving up the start after 2 failed attempts (generation 2: not ready in 2 secs)
		4 (1 gets terminated)
		4 (2 gets terminated)
		5 worker 1 died, status:0
		7 worker 2 died, status:0
		7 exiting`)
		if err := p.loop.failure; err == nil || err.Error() != "no worker has started in 2 attempts (generation 2: not ready in 2 secs)" {
			t.Error(err)
		}
	})
}

func TestDeathDuringDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeRuntime(t, rules{interval: time.Second})
		p.current.killOldDelay = 5 * time.Second
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
		p := newFakeRuntime(t, rules{interval: time.Second})
		p.current = settings{autoRestart: true, autoRestartInterval: 10 * time.Second}
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
		p := newFakeRuntime(t, rules{interval: time.Second, readiness: byNotice, startTimeout: 5 * time.Second, killTimeout: 2 * time.Second})
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
		p := newFakeRuntime(t, rules{})
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
