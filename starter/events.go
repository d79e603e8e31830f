package starter

import (
	"fmt"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/supervisor"
)

// An Event is something that happened in a superdaemon: one of the types below, to be distinguished
// by a type switch. More types may be added.
type Event interface{ event() }

type (
	// WorkerStarted means that a worker process was started. It does not serve yet.
	WorkerStarted struct{ PID, Generation int }

	// WorkerReady means that a worker has started: it is alive after Config.Interval, has sent
	// READY=1, or waits for connections.
	WorkerReady struct{ PID, Generation int }

	// WorkerAdopted means that a worker of a superdaemon that was killed was adopted. It serves
	// until a new one has started.
	WorkerAdopted struct{ PID, Generation int }

	// WorkerFailed means that an attempt to start a worker has failed: it died too early, was not
	// ready in time, or could not be started at all, in which case PID is 0.
	WorkerFailed struct {
		PID, Generation int
		Reason          string // "exit status 1", "killed by SEGV", "not ready in 5 secs"
	}

	// WorkerDied means that a worker has ended. If Stopped is false, it has crashed.
	WorkerDied struct {
		PID, Generation int
		Status          int  // exit code × 256 + signal, as in the log; -1 if unknown, for an adopted worker
		Stopped         bool // a signal to stop was sent before
	}

	// WorkerStopped means that a signal to stop was sent to a worker, KILL included
	// (Config.KillTimeout).
	WorkerStopped struct {
		PID, Generation int
		Signal          syscall.Signal
	}

	// RestartBegun means that a restart has begun: by a HUP, by Runner.Restart, by time or
	// because a socket was replaced.
	RestartBegun struct{ Number int } // 1 for the first one

	// RestartSucceeded means that the new worker of a restart serves and the old ones were
	// signalled to stop.
	RestartSucceeded struct {
		Number, Generation, Attempts int
		Duration                     time.Duration
	}

	// RestartGivenUp means that a restart, or the first start if Number is 0, was given up after
	// Config.MaxAttempts.
	RestartGivenUp struct {
		Number, Generation, Attempts int
		Duration                     time.Duration
		Reason                       string // why the last attempt failed
	}

	// ProcessStarted means that one of the processes of a worker was started (Config.Workers). PID
	// is that of the process, Worker that of the worker, Number the value of SERVER_STARTER_WORKER.
	ProcessStarted struct{ PID, Worker, Generation, Number int }

	// ProcessReady means that one of the processes of a worker has started.
	ProcessReady struct{ PID, Worker, Generation, Number int }

	// ProcessDied means that one of the processes of a worker has ended. If the worker was killed,
	// WorkerDied is the only event. If Stopped is false, it has crashed.
	ProcessDied struct {
		PID, Worker, Generation, Number int
		Status                          int  // exit code × 256 + signal
		Stopped                         bool // a signal to stop was sent before
	}

	// UpgradeRequested means that USR2 was received. If the upgrade succeeds, the next event is in
	// the new program.
	UpgradeRequested struct{}

	// Upgraded is the first event after an upgrade, in the new program.
	Upgraded struct{}

	// Stopping means that a stop has begun: by a signal, by the end of the context or because the
	// first start was given up.
	Stopping struct{}
)

func (WorkerStarted) event()    {}
func (WorkerReady) event()      {}
func (WorkerAdopted) event()    {}
func (WorkerFailed) event()     {}
func (WorkerDied) event()       {}
func (WorkerStopped) event()    {}
func (RestartBegun) event()     {}
func (RestartSucceeded) event() {}
func (RestartGivenUp) event()   {}
func (ProcessStarted) event()   {}
func (ProcessReady) event()     {}
func (ProcessDied) event()      {}
func (UpgradeRequested) event() {}
func (Upgraded) event()         {}
func (Stopping) event()         {}

// publicEvent returns an event of the supervisor under its public name.
func publicEvent(e supervisor.Event) Event {
	switch e := e.(type) {
	case supervisor.WorkerStarted:
		return WorkerStarted(e)
	case supervisor.WorkerReady:
		return WorkerReady(e)
	case supervisor.WorkerAdopted:
		return WorkerAdopted(e)
	case supervisor.WorkerFailed:
		return WorkerFailed(e)
	case supervisor.WorkerDied:
		return WorkerDied(e)
	case supervisor.WorkerStopped:
		return WorkerStopped(e)
	case supervisor.RestartBegun:
		return RestartBegun(e)
	case supervisor.RestartSucceeded:
		return RestartSucceeded(e)
	case supervisor.RestartGivenUp:
		return RestartGivenUp(e)
	case supervisor.UpgradeRequested:
		return UpgradeRequested{}
	case supervisor.StopBegun:
		return Stopping{}
	}
	panic(fmt.Sprintf("unknown event %T", e)) // cannot happen: these are all
}
