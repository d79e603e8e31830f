// Package procfs reads directories of proc(5).
package procfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// Names returns the names in a directory of /proc, in no order. After an error it returns those read
// until then. It takes half as many system calls as package os, which prepares each directory for epoll,
// and a take-over reads thousands.
func Names(dir string) (names []string, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var buf [8 << 10]byte
	for {
		n, err := unix.ReadDirent(fd, buf[:])
		if err != nil {
			return names, &os.PathError{Op: "readdirent", Path: dir, Err: err}
		}
		if n <= 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}
