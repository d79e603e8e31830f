package starter

import "golang.org/x/sys/unix"

// anonymousFile opens a file that only its descriptor knows.
func anonymousFile() (descriptor int, err error) {
	return unix.MemfdCreate("start_server", unix.MFD_CLOEXEC)
}
