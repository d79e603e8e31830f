package process

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/procfs"
)

// Inherited returns the descriptors above 2 that this process inherited and that its children
// inherit as well: those that are open and not close-on-exec. No descriptor that this program opens
// is one.
func Inherited() []int {
	var inherited []int
	for _, fd := range openDescriptors() {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if fd > 2 && err == nil && flags&unix.FD_CLOEXEC == 0 {
			inherited = append(inherited, fd)
		}
	}
	slices.Sort(inherited)
	return inherited
}

// openDescriptors returns the open descriptors, and possibly others.
func openDescriptors() []int {
	var fds []int
	if names, err := procfs.Names("/proc/self/fd"); err == nil {
		for _, name := range names {
			if fd, err := strconv.Atoi(name); err == nil {
				fds = append(fds, fd)
			}
		}
		return fds
	}
	const most = 1024 // if no directory lists them; more are inherited, but not skipped by sockets
	for fd := range most {
		fds = append(fds, fd)
	}
	return fds
}

// Reserve makes room for count more descriptors at once. A table of more than 256 grows by
// doubling, and each time a process with threads waits some 10 ms for the kernel's RCU.
func Reserve(count int) {
	const others = 32 // descriptors for other purposes
	if count+others <= 256 {
		return
	}
	if fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, count+others); err == nil {
		unix.Close(fd)
	}
}
