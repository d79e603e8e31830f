package orphan

import (
	"os"

	"golang.org/x/sys/unix"
)

// A Process is a process that is not a child of this one. The pidfd refers to it even if its pid is
// reused.
type Process struct {
	PID        int
	Descriptor int // the pidfd, close-on-exec
}

// Exited reports, without waiting, whether the process has ended. Its status is known to its parent
// only.
func (p Process) Exited() bool {
	poll := []unix.PollFd{{Fd: int32(p.Descriptor), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// Watch calls exited when the process has ended, from a goroutine that uses no thread while it
// waits. The returned function closes the descriptor.
func (p Process) Watch(exited func()) (closeDescriptor func()) {
	_ = unix.SetNonblock(p.Descriptor, true) // for the runtime's poller
	file := os.NewFile(uintptr(p.Descriptor), "pidfd")
	connection, err := file.SyscallConn()
	if err == nil {
		go func() {
			if connection.Read(func(uintptr) bool { return p.Exited() }) == nil {
				exited()
			}
		}()
	}
	return func() { _ = file.Close() }
}
