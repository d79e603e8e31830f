package process

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CanDieWithParent reports whether this system has Spec.DieWithParent.
const CanDieWithParent = true

func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// SetName sets the name of the thread, for ps(1) that of the process if it is the first one. A
// process that has set it is no trampoline any more.
func SetName(name string) {
	text := append([]byte(name), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&text[0])), 0, 0, 0)
}
