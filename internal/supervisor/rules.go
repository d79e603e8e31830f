package supervisor

import (
	"syscall"
	"time"
)

// retryPause is the shortest time between attempts to start a worker. With an interval of 0 the
// original has none.
const retryPause = 100 * time.Millisecond

// Rules are the options that the supervisor follows. They never change.
type Rules struct {
	Interval      time.Duration
	Readiness     Readiness     // how a worker shows that it has started
	StartTimeout  time.Duration // until it must have; not for ByInterval
	KillTimeout   time.Duration // 0: no worker that has started is ever killed
	StopFirst     bool          // a new worker is started after the old ones have ended
	StopDelay     time.Duration // between a signal to stop and the signal to the workers
	MaxAttempts   int           // failed attempts until a restart, or the first start, is given up; 0: never
	MaxOldWorkers *int          // that may be left when a restart has succeeded; nil: any number
	SignalOnHUP   StopSignal
	SignalOnTERM  StopSignal
}

// Readiness is how a worker shows that it has started.
type Readiness int

const (
	ByInterval  Readiness = iota // it is alive after the interval (Server::Starter 0.35)
	ByNotice                     // it sends READY=1 (sd_notify(3))
	ByAccepting                  // it waits for connections on its sockets
)

// StopSignal is a signal that stops a worker, with the name that log lines have for it: the
// original logs a signal as it was given, a number for a number.
type StopSignal struct {
	syscall.Signal
	Name string
}

var sigTERM = StopSignal{syscall.SIGTERM, "TERM"}

// Hints decides which hints for new users apply.
type Hints struct {
	Sockets bool // there are sockets for the worker
	Dir     bool // the worker runs in a directory that may be missing
	OneWord bool // the program and its arguments look like one word
}

// settingsTime is how often settings that may change are read while automatic restarts are on.
const settingsTime = time.Second

// Settings are the values of options that the environment and the envdir can change.
type Settings struct {
	MayChange           bool // there is an envdir
	AutoRestart         bool
	AutoRestartInterval time.Duration
	KillOldDelay        time.Duration
}
