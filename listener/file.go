package listener

import (
	"os"
	"syscall"
)

// File returns a duplicate of a socket, to be passed to a process that the server starts (in
// [os/exec.Cmd.ExtraFiles]). All listeners and packet connections of package net are a
// syscall.Conn:
//
//	file, err := listener.File(l.(syscall.Conn))
//
// The file that [net.TCPListener.File] returns is not fit for that: os/exec calls its Fd, which
// puts the socket in blocking mode, for all generations, and then Accept does not return when the
// listener is closed.
func File(socket syscall.Conn) (*os.File, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var file *os.File
	failure := raw.Control(func(fd uintptr) { file, err = duplicate(fd) })
	if failure != nil {
		return nil, failure
	}
	return file, err
}
