//go:build !linux

package upgrade

import (
	"os"

	"golang.org/x/sys/unix"
)

// anonymousFile opens a new file that has no name.
func anonymousFile() (descriptor int, err error) {
	file, err := os.CreateTemp("", "start_server")
	if err != nil {
		return -1, err
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil {
		return -1, err
	}
	return unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
}
