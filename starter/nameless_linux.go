package starter

import "golang.org/x/sys/unix"

// namelessFile opens a file that only its descriptor knows.
func namelessFile() (descriptor int, err error) {
	return unix.MemfdCreate("start_server", unix.MFD_CLOEXEC)
}
