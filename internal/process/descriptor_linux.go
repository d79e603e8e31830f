package process

import "golang.org/x/sys/unix"

// Dup2 makes the descriptor to a copy of from that children inherit.
func Dup2(from, to int) error {
	if from == to {
		_, err := unix.FcntlInt(uintptr(from), unix.F_SETFD, 0)
		return err
	}
	return unix.Dup3(from, to, 0)
}

// Pipe makes a pipe whose ends are not inherited by children.
func Pipe() (read, write int, err error) {
	var p [2]int
	err = unix.Pipe2(p[:], unix.O_CLOEXEC)
	return p[0], p[1], err
}
