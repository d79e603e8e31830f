//go:build !linux || mips || mipsle || mips64 || mips64le

package signals

import "os/signal"

// IgnoreAll ignores every signal that could end the process, for an exec. A signal that arrives
// at this very moment may be lost. The function that it returns puts all back.
func IgnoreAll() (restore func()) {
	settle()
	signal.Ignore(ending()...)
	return notifyAll
}
