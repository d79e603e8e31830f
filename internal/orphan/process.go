package orphan

import (
	"os"

	"golang.org/x/sys/unix"
)

// A Process is one that is not a child of this process, known by a pidfd: the number cannot come to mean another process.
type Process struct {
	PID        int
	Descriptor int // the pidfd, close-on-exec
}

// Exited reports, without waiting, whether the process has ended. How it ended only its parent can know.
func (p Process) Exited() bool {
	poll := []unix.PollFd{{Fd: int32(p.Descriptor), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// Watch calls exited, from a goroutine that uses no thread meanwhile, when the process has ended. The function that it returns
// closes the descriptor.
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
