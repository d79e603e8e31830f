// Package signals holds the signals that the superdaemon has received and not
// acted on yet.
package signals

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// Channels keep one signal of each kind until it is acted on: many of a kind
// are as good as one, and none is ever crowded out by others.
type Channels struct {
	HUP     chan os.Signal
	Stop    chan os.Signal // TERM, INT, QUIT: one that waits is enough
	Upgrade chan os.Signal // USR2
	Child   chan os.Signal
	Stray   chan os.Signal // would end the process, and is only logged
}

// Variable is set in the environment of a superdaemon that replaces
// another one, by the descriptor that its state can be read from.
const Variable = "START_SERVER_STATE"

var (
	received    Channels
	pipeIgnored bool // before Catch
	kept        bool
)

var (
	stop  = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}
	stray = []os.Signal{
		syscall.SIGUSR1, syscall.SIGALRM, syscall.SIGVTALRM,
		syscall.SIGTRAP, syscall.SIGSYS, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGIO,
	}
)

// ending are the signals that would end a process which does not catch them.
func ending() []os.Signal {
	return slices.Concat(stop, stray, []os.Signal{syscall.SIGHUP, syscall.SIGUSR2})
}

// init, because a superdaemon that replaces another one has signals to lose: until
// they are caught, TERM ends it. This package imports next to nothing
// so that it is initialised as early as can be.
func init() {
	if os.Getenv(Variable) != "" {
		Catch()
		CatchRest()
	}
}

// Catch returns the channels, after which no signal that has a meaning ends the process any more. It
// catches those that must not be missed before the first worker is started; each takes some 30 µs.
func Catch() Channels {
	if received.HUP == nil {
		received = NewChannels()
		signal.Notify(received.Stop, syscall.SIGTERM) // the one that matters most
		signal.Notify(received.HUP, syscall.SIGHUP)
		signal.Notify(received.Stop, stop...)
		signal.Notify(received.Upgrade, syscall.SIGUSR2)
		pipeIgnored = signal.Ignored(syscall.SIGPIPE)
		signal.Ignore(syscall.SIGPIPE) // and workers inherit that (Server::Starter 0.35)
	}
	return received
}

// Keep makes Release do nothing, for a program that exits when the superdaemon has ended.
func Keep() { kept = true }

// Release undoes Catch: the signals do again what they did before. Signals that were received and not
// acted on are dropped.
func Release() {
	if kept || received.HUP == nil {
		return
	}
	for _, c := range []chan os.Signal{received.HUP, received.Stop, received.Upgrade, received.Child, received.Stray} {
		signal.Stop(c)
	}
	if !pipeIgnored {
		none := make(chan os.Signal, 1)
		signal.Notify(none, syscall.SIGPIPE) // undoes Ignore; after Reset it would still be reported by signal.Ignored
		signal.Stop(none)
	}
	received = Channels{}
}

// CatchRest catches the others, after which none ends the process any more, but KILL and those of a
// crash. A child may have ended before SIGCHLD was caught.
func CatchRest() {
	signal.Notify(received.Child, syscall.SIGCHLD)
	signal.Notify(received.Stray, stray...)
	if os.Getenv("WATCHDOG_USEC") == "" { // a service manager's watchdog means it (sd_watchdog_enabled(3))
		signal.Notify(received.Stray, syscall.SIGABRT)
	}
}

// NewChannels makes channels that nothing is sent to.
func NewChannels() Channels {
	return Channels{
		HUP:     make(chan os.Signal, 1),
		Stop:    make(chan os.Signal, 1),
		Upgrade: make(chan os.Signal, 1),
		Child:   make(chan os.Signal, 1),
		Stray:   make(chan os.Signal, 16),
	}
}

// Drain takes what is waiting to be acted on.
func (c Channels) Drain() (waiting []syscall.Signal) {
	for _, channel := range []chan os.Signal{c.HUP, c.Stop, c.Upgrade, c.Stray} {
		for len(channel) > 0 {
			waiting = append(waiting, (<-channel).(syscall.Signal))
		}
	}
	return waiting
}

// settle waits until every signal that this process has received is in its channel.
func settle() {
	var none = make(chan os.Signal, 1)
	signal.Notify(none, syscall.SIGCONT)
	signal.Stop(none) // which waits for that
}
