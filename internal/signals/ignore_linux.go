//go:build linux && !mips && !mipsle && !mips64 && !mips64le

package signals

import (
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// sigaction is the kernel's structure. Its first field is the handler; the layout of the rest
// depends on the architecture, and holds zeros or what the kernel returned.
type sigaction struct {
	handler uintptr
	rest    [7]uintptr
}

const sigIgn = 1

// AwaitDelivery waits until every signal sent earlier has been received: IgnoreAll would lose one
// that is still pending.
func AwaitDelivery() {
	for range 1000 {
		if !pending() {
			return
		}
		time.Sleep(10 * time.Microsecond)
	}
}

// pending reports whether a signal to the process waits for one of its threads.
func pending() bool {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if mask, ok := strings.CutPrefix(line, "ShdPnd:"); ok {
			return strings.Trim(mask, "\t 0\n") != ""
		}
	}
	return false
}

// IgnoreAll ignores every signal that could end the process, before an exec. Signals received
// earlier are in the channels when it returns; signal.Ignore would lose some of them. The returned
// function restores the handlers.
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

// Default gives a signal the default action of the system. signal.Reset would give it that of the
// Go runtime, which writes a stack trace for some.
func Default(sig syscall.Signal) { rtSigaction(sig, &sigaction{}, nil) }
