package upgrade

import "golang.org/x/sys/unix"

// anonymousFile opens a new file that has no name.
func anonymousFile() (descriptor int, err error) {
	return unix.MemfdCreate("start_server", unix.MFD_CLOEXEC)
}
