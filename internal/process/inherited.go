package process

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Inherited lists the descriptors above 2 that this process was given and that its
// children get as well: those that are open and not close-on-exec. Nothing that
// this program opens itself is among them.
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

// openDescriptors may name more than are open.
func openDescriptors() []int {
	var fds []int
	if names, err := readNames("/proc/self/fd"); err == nil {
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

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Reserve makes room for count more descriptors at once. A table of more than 256 grows by doubling, and
// each time a process with threads waits for the kernel's RCU, 10 ms or so.
func Reserve(count int) {
	const others = 32 // what is open, and will be
	if count+others <= 256 {
		return
	}
	if fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, count+others); err == nil {
		unix.Close(fd)
	}
}
