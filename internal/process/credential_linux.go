package process

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// CanChangeUser returns an error if this process cannot start, and signal, processes of other
// users.
func CanChangeUser() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var capabilities [2]unix.CapUserData
	if err := unix.Capget(&header, &capabilities[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	const needed = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_KILL
	if capabilities[0].Effective&needed != needed {
		return errors.New("requires root, or CAP_SETUID, CAP_SETGID and CAP_KILL")
	}
	// The kernel drops capabilities only when root becomes another user. Inheritable ones may be
	// ambient too, and would allow a worker to become root (capabilities(7)).
	if os.Geteuid() != 0 && capabilities[0].Inheritable&needed != 0 {
		return errors.New("requires root: the workers would inherit CAP_SETUID, CAP_SETGID or CAP_KILL")
	}
	return nil
}

// keepDumpable returns a function that makes this process dumpable again after it has started a
// process of another user. Until the child executes its program it shares the memory of this
// process, and the kernel then treats this process like a setuid program: root without
// CAP_SYS_PTRACE, as in a container, could not see its descriptors any more.
func keepDumpable() (restore func()) {
	before, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || before != 1 {
		return func() {}
	}
	return func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(before), 0, 0, 0) }
}
