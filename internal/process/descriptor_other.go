//go:build !linux

package process

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Dup2 makes the descriptor to a copy of from that children inherit.
func Dup2(from, to int) error {
	if from == to {
		_, err := unix.FcntlInt(uintptr(from), unix.F_SETFD, 0)
		return err
	}
	return unix.Dup2(from, to)
}

// Pipe makes a pipe whose ends are not inherited by children.
func Pipe() (read, write int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return -1, -1, err
	}
	unix.CloseOnExec(p[0])
	unix.CloseOnExec(p[1])
	return p[0], p[1], nil
}
