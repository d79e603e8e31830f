//go:build !linux || mips || mipsle || mips64 || mips64le

package signals

import (
	"os/signal"
	"syscall"
)

// IgnoreAll ignores every signal that could end the process, before an exec. A signal that arrives
// at this very moment may be lost. The returned function restores the handlers.
func IgnoreAll() (restore func()) {
	settle()
	signal.Ignore(ending()...)
	return func() {
		signal.Notify(received.HUP, syscall.SIGHUP)
		signal.Notify(received.Stop, stop...)
		signal.Notify(received.Upgrade, syscall.SIGUSR2)
		CatchRest()
	}
}

// AwaitDelivery does nothing: what is still pending is not known.
func AwaitDelivery() {}

// Default gives a signal its default action.
func Default(sig syscall.Signal) { signal.Reset(sig) }
