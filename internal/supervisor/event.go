package supervisor

import (
	"syscall"
	"time"
)

// An Event is one of the types below, which package starter describes under the same names.
type Event interface{ event() }

type (
	WorkerStarted struct{ PID, Generation int }
	WorkerReady   struct{ PID, Generation int }
	WorkerAdopted struct{ PID, Generation int }
	WorkerFailed  struct {
		PID, Generation int
		Reason          string
	}
	WorkerDied struct {
		PID, Generation int
		Status          int
		Stopped         bool
	}
	WorkerStopped struct {
		PID, Generation int
		Signal          syscall.Signal
	}
	RestartBegun     struct{ Number int }
	RestartSucceeded struct {
		Number, Generation, Attempts int
		Duration                     time.Duration
	}
	RestartGivenUp struct {
		Number, Generation, Attempts int
		Duration                     time.Duration
		Reason                       string
	}
	UpgradeRequested struct{}
	StopBegun        struct{} // starter.Stopping
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
func (UpgradeRequested) event() {}
func (StopBegun) event()        {}
