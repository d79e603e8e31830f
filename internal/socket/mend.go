package socket

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Mend makes a socket listen again after shutdown(2), which some servers call when they stop and
// which affects every process that shares the socket. It reports whether the socket was broken. A
// unix socket cannot listen again: a new one replaces it, with the same access, if its file was
// made by start_server.
func (s *Socket) Mend(backlog int) (broken bool, err error) {
	if !s.Listening {
		return false, nil
	}
	addr, err := unix.Getsockname(s.FD)
	if err != nil {
		return false, fmt.Errorf("read the address of socket %s: %w", s.Key, err)
	}
	if _, ok := addr.(*unix.SockaddrUnix); ok {
		if !shutDown(s.FD) {
			return false, nil
		}
		err = s.replace(backlog)
	} else {
		listens, err := unix.GetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err != nil || listens != 0 {
			return false, err
		}
		_ = unix.Bind(s.FD, addr) // needed if the system had chosen the port; fails if it is still bound
		return true, wrapMend(s.Key, listen(s.FD, backlog))
	}
	return true, wrapMend(s.Key, err)
}

func wrapMend(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("listen again on %s: %w", key, err)
}

// shutDown reports whether shutdown(2) was called on a unix socket: SO_ACCEPTCONN does not show it.
func shutDown(fd int) bool {
	const readingHalf = 0x2000 // POLLRDHUP of Linux
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | readingHalf}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0 && poll[0].Revents&(unix.POLLHUP|readingHalf) != 0
}

// replace binds a new unix socket to the path.
func (s *Socket) replace(backlog int) error {
	if !s.Same(s.Path) {
		return errors.New("the file was not made by start_server")
	}
	access, err := s.Access()
	if err != nil {
		return err
	}
	fresh, err := OpenPath(s.Path, backlog, access, func(string) {})
	if err != nil {
		return err
	}
	unix.Close(s.FD)
	s.FD, s.Device, s.Inode = fresh.FD, fresh.Device, fresh.Inode
	return nil
}
