package starter

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/supervisor"
)

func TestStopFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, StopFirst: true, KillTimeout: 4 * time.Second})
		p.slow = 3 * time.Second
		p.settings.KillOldDelay = 5 * time.Second // not used with --stop-first
		p.lives[3] = 0
		p.at(10, p.hup)
		p.at(12, p.hup) // while waiting for the old worker: the next start acts on it
		p.at(20, p.hup) // whose worker fails
		p.at(30, p.term)
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 sending TERM to old workers:1, starting a new worker when they are gone
		10 (1 gets terminated)
		13 old worker 1 died, status:0
		13 received HUP, spawning a new worker
		13 starting new worker 2
		14 new worker is now running, sending TERM to old workers:none
		14 killing old workers
		20 received HUP, spawning a new worker
		20 sending TERM to old workers:2, starting a new worker when they are gone
		20 (2 gets terminated)
		23 old worker 2 died, status:0
		23 starting new worker 3
		24 new worker 3 seems to have failed to start, exit status:256
		24 starting new worker 4
		25 new worker is now running, sending TERM to old workers:none
		25 killing old workers
		30 received TERM, sending TERM to all workers:4
		30 (4 gets terminated)
		33 worker 4 died, status:0
		33 exiting`)
	})
}

// TestStopFirstStraggler checks that a worker that does not become ready or does not stop in time
// has ended before the next one is started.
func TestStopFirstStraggler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, StopFirst: true, Readiness: supervisor.ByNotice, StartTimeout: 2 * time.Second, KillTimeout: 4 * time.Second})
		p.slow = time.Hour
		p.at(10, p.term)
		p.run(`
		0 starting new worker 1
		2 new worker 1 is not ready after 2 secs, sending TERM
		2 (1 gets terminated)
		4 worker 1 is still there 2 secs after it was told to stop, sending KILL
		4 (1 gets killed)
		4 new worker 1 seems to have failed to start, exit status:9
		4 starting new worker 2
		6 new worker 2 is not ready after 2 secs, sending TERM
		6 ` + lines.HintReady + `
		6 (2 gets terminated)
		8 worker 2 is still there 2 secs after it was told to stop, sending KILL
		8 (2 gets killed)
		8 new worker 2 seems to have failed to start, exit status:9
		8 starting new worker 3
		10 received TERM, sending TERM to all workers:3
		10 (3 gets terminated)
		14 worker 3 is still there 4 secs after it was told to stop, sending KILL
		14 (3 gets killed)
		14 worker 3 died, status:9
		14 exiting`)
	})
}

func TestStopFirstAutoRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, StopFirst: true})
		p.settings = supervisor.Settings{AutoRestart: true, AutoRestartInterval: 10 * time.Second, KillOldDelay: 5 * time.Second}
		p.slow = 2 * time.Second
		p.at(15, p.term)
		p.run(`
		0 starting new worker 1
		11 autorestart triggered (interval=10)
		11 sending TERM to old workers:1, starting a new worker when they are gone
		11 (1 gets terminated)
		13 old worker 1 died, status:0
		13 starting new worker 2
		14 new worker is now running, sending TERM to old workers:none
		14 killing old workers
		15 received TERM, sending TERM to all workers:2
		15 (2 gets terminated)
		17 worker 2 died, status:0
		17 exiting`)
	})
}

func TestStopDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, StopDelay: 5 * time.Second})
		p.settings = supervisor.Settings{AutoRestart: true, AutoRestartInterval: 11 * time.Second}
		p.at(10, p.term)
		p.at(11, p.hup)
		p.at(13, func() { p.dies(1, 0, 256) }) // the worker is replaced: clients are still served
		p.run(`
		0 starting new worker 1
		10 received TERM, stopping workers in 5 secs
		11 received HUP, ignored
		13 worker 1 died unexpectedly with status:256, restarting
		13 starting new worker 2
		15 received TERM, sending TERM to all workers:2
		15 (2 gets terminated)
		15 worker 2 died, status:0
		15 exiting`)
	})
}

// TestStopDelayRestart checks that a restart under way continues during the delay of a stop, and
// that a pending HUP is dropped.
func TestStopDelayRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: 2 * time.Second, StopDelay: 5 * time.Second})
		p.at(10, p.hup)
		p.at(10.5, p.hup)
		p.at(11, p.term)
		p.run(`
		0 starting new worker 1
		10 received HUP, spawning a new worker
		10 starting new worker 2
		11 received TERM, stopping workers in 5 secs
		12 new worker is now running, sending TERM to old workers:1
		12 killing old workers
		12 (1 gets terminated)
		12 old worker 1 died, status:0
		16 received TERM, sending TERM to all workers:2
		16 (2 gets terminated)
		16 worker 2 died, status:0
		16 exiting`)
	})
}

func TestStopDelayCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, StopDelay: 5 * time.Second, SignalOnHUP: sigTERM, SignalOnTERM: supervisor.StopSignal{Signal: syscall.SIGQUIT, Name: "QUIT"}})
		p.at(10, p.term)
		p.at(12, func() { p.loop.signals.Stop <- syscall.SIGINT })
		p.run(`
		0 starting new worker 1
		10 received TERM, stopping workers in 5 secs
		12 received INT, sending TERM to all workers:1
		12 (1 gets terminated)
		12 worker 1 died, status:0
		12 exiting`)
	})
}

// TestStopDelayNothing checks that there is no delay if no worker has ever served.
func TestStopDelayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: 2 * time.Second, StopDelay: 5 * time.Second})
		p.at(1, p.term)
		p.run(`
		0 starting new worker 1
		1 received TERM, sending TERM to all workers:1
		1 (1 gets terminated)
		1 worker 1 died, status:0
		1 exiting`)
	})
}
