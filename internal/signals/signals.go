// Package signals catches signals and keeps those that the superdaemon has not acted on yet.
package signals

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// Channels keep one signal of each kind until it is acted on. Several of one kind count as one, and
// a signal is never lost because of signals of another kind.
type Channels struct {
	HUP     chan os.Signal
	Stop    chan os.Signal // TERM, INT or QUIT, whichever came first
	Upgrade chan os.Signal // USR2
	Child   chan os.Signal
	Stray   chan os.Signal // signals that would end the process and are only logged
}

// Variable is set in the environment of a superdaemon that replaces
// another one, by the descriptor that its state can be read from.
const Variable = "START_SERVER_STATE"

var (
	received Channels
	ignored  []os.Signal // before Catch
)

var (
	stop  = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}
	stray = []os.Signal{
		syscall.SIGUSR1, syscall.SIGALRM, syscall.SIGVTALRM,
		syscall.SIGTRAP, syscall.SIGSYS, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGIO,
	}
)

// ending returns the signals that would end a process that does not catch them.
func ending() []os.Signal {
	return slices.Concat(stop, stray, []os.Signal{syscall.SIGHUP, syscall.SIGUSR2})
}

// init runs Catch, because a superdaemon that replaces another one can lose signals: until they are
// caught, TERM ends it. This package imports almost nothing, so that it is initialized early.
func init() {
	if os.Getenv(Variable) != "" {
		Catch()
		CatchRest()
	}
}

// Catch returns the channels. From then on no signal that the superdaemon acts on ends the process.
// It catches only the signals that must not be missed before the first worker is started: each
// takes some 30 µs.
func Catch() Channels {
	if received.HUP == nil {
		received = NewChannels()
		ignored = slices.DeleteFunc(append(ending(), syscall.SIGPIPE), func(sig os.Signal) bool { return !signal.Ignored(sig) })
		signal.Notify(received.Stop, syscall.SIGTERM) // the one that matters most
		signal.Notify(received.HUP, syscall.SIGHUP)
		signal.Notify(received.Stop, stop...)
		signal.Notify(received.Upgrade, syscall.SIGUSR2)
		signal.Ignore(syscall.SIGPIPE) // workers inherit that (Server::Starter 0.35)
	}
	return received
}

// Release undoes Catch: the signals do again what they did before. Signals that were received and
// not acted on are dropped.
func Release() {
	if received.HUP == nil {
		return
	}
	for _, c := range []chan os.Signal{received.HUP, received.Stop, received.Upgrade, received.Child, received.Stray} {
		signal.Stop(c)
	}
	if !slices.Contains(ignored, os.Signal(syscall.SIGPIPE)) {
		none := make(chan os.Signal, 1)
		signal.Notify(none, syscall.SIGPIPE) // undoes Ignore; after Reset it would still be reported by signal.Ignored
		signal.Stop(none)
	}
	if len(ignored) > 0 { // without arguments, Ignore ignores all signals
		signal.Ignore(ignored...)
	}
	received = Channels{}
}

// CatchRest catches the other signals. From then on only KILL, the signals of a crash and those
// that Go cannot catch (34) end the process. A child may have ended before SIGCHLD was caught.
func CatchRest() {
	signal.Notify(received.Child, syscall.SIGCHLD)
	signal.Notify(received.Stray, stray...)
	if os.Getenv("WATCHDOG_USEC") == "" { // with a watchdog, ABRT has to end it (sd_watchdog_enabled(3))
		signal.Notify(received.Stray, syscall.SIGABRT)
	}
}

// NewChannels returns channels that receive no signals.
func NewChannels() Channels {
	return Channels{
		HUP:     make(chan os.Signal, 1),
		Stop:    make(chan os.Signal, 1),
		Upgrade: make(chan os.Signal, 1),
		Child:   make(chan os.Signal, 1),
		Stray:   make(chan os.Signal, 16),
	}
}

// Drain removes the signals in the channels and returns them, those of Child excepted.
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
	signal.Stop(none) // waits until the signals received so far are delivered
}
