//go:build linux && !mips && !mipsle && !mips64 && !mips64le

package signals

import (
	"syscall"
	"unsafe"
)

// sigaction is the kernel's, whose first field is the handler; the layout of
// the rest differs, and is zero or what the kernel said.
type sigaction struct {
	handler uintptr
	rest    [7]uintptr
}

const sigIgn = 1

// IgnoreAll ignores every signal that could end the process, for an exec: those which were
// received before are in the channels. signal.Ignore would lose some of them. The function that it
// returns puts all back.
func IgnoreAll() (restore func()) {
	before := map[syscall.Signal]*sigaction{}
	for _, sig := range ending() {
		old := &sigaction{}
		rtSigaction(sig.(syscall.Signal), &sigaction{handler: sigIgn}, old)
		before[sig.(syscall.Signal)] = old
	}
	settle()
	return func() {
		for sig, old := range before {
			rtSigaction(sig, old, nil)
		}
	}
}

func rtSigaction(sig syscall.Signal, set, old *sigaction) {
	const maskBytes = 8
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), maskBytes, 0, 0)
}
