package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CanDieWithParent reports whether this system has Spec.DieWithParent.
const CanDieWithParent = true

func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// Parent returns the parent of a process and when the process was started, which tells it from a
// later one that has the same pid. It returns zeros if there is no such process.
func Parent(pid int) (parent int, started uint64) {
	s, _ := ReadStat(pid)
	return s.Parent, s.Started
}

// SetName sets the name of the thread, for ps(1) that of the process if it is the first one. A
// process that has set it is no trampoline any more.
func SetName(name string) {
	text := append([]byte(name), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&text[0])), 0, 0, 0)
}
