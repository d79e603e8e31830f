package starter

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/start-server/start-server/internal/supervisor"
)

func TestEventsOfAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, MaxAttempts: 1})
		p.lives[8] = 0
		p.loop.adopt([]*supervisor.Worker{{PID: 7, Generation: 7}})
		p.at(5, p.term)
		p.loop.run(t.Context())
		want := []Event{
			WorkerAdopted{PID: 7, Generation: 7},
			WorkerStarted{PID: 8, Generation: 8},
			WorkerDied{PID: 8, Generation: 8, Status: 256},
			WorkerFailed{PID: 8, Generation: 8, Reason: "exit status 1"},
			RestartGivenUp{Generation: 8, Attempts: 1, Duration: time.Second, Reason: "exit status 1"},
			Stopping{},
			WorkerStopped{PID: 7, Generation: 7, Signal: syscall.SIGTERM},
			WorkerDied{PID: 7, Generation: 7, Stopped: true},
		}
		if diff := cmp.Diff(want, p.events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if p.loop.Failure != nil {
			t.Errorf("failed although a worker served: %v", p.loop.Failure)
		}
	})
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFakeSystem(t, supervisor.Rules{Interval: time.Second, MaxAttempts: 1, KillTimeout: 2 * time.Second})
		p.lives[2], p.lives[3] = 0, 15*time.Second
		p.slow = 3 * time.Second
		p.at(10, p.hup) // fails
		p.at(20, p.hup) // succeeds, and crashes at 35
		p.at(40, func() { p.loop.signals.Upgrade <- syscall.SIGUSR2 })
		p.at(50, p.term)
		p.loop.run(t.Context())
		want := []Event{
			WorkerStarted{PID: 1, Generation: 1},
			WorkerReady{PID: 1, Generation: 1},
			RestartBegun{Number: 1},
			WorkerStarted{PID: 2, Generation: 2},
			WorkerDied{PID: 2, Generation: 2, Status: 256},
			WorkerFailed{PID: 2, Generation: 2, Reason: "exit status 1"},
			RestartGivenUp{Number: 1, Generation: 2, Attempts: 1, Duration: time.Second, Reason: "exit status 1"},
			RestartBegun{Number: 2},
			WorkerStarted{PID: 3, Generation: 3},
			WorkerReady{PID: 3, Generation: 3},
			WorkerStopped{PID: 1, Generation: 1, Signal: syscall.SIGTERM},
			RestartSucceeded{Number: 2, Generation: 3, Attempts: 1, Duration: time.Second},
			WorkerStopped{PID: 1, Generation: 1, Signal: syscall.SIGKILL},
			WorkerDied{PID: 1, Generation: 1, Status: 9, Stopped: true},
			WorkerDied{PID: 3, Generation: 3, Status: 256},
			WorkerStarted{PID: 4, Generation: 4},
			WorkerReady{PID: 4, Generation: 4},
			UpgradeRequested{},
			Stopping{},
			WorkerStopped{PID: 4, Generation: 4, Signal: syscall.SIGTERM},
			WorkerStopped{PID: 4, Generation: 4, Signal: syscall.SIGKILL},
			WorkerDied{PID: 4, Generation: 4, Status: 9, Stopped: true},
		}
		if diff := cmp.Diff(want, p.events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}
