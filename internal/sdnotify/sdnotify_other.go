//go:build unix && !linux

package sdnotify

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	abstract        = false
	credentialsSize = 0
	receiveFlags    = 0
)

func socket() (int, error) {
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("set non-blocking", err)
	}
	return fd, nil
}

// listen binds in a directory that no other user may list. The name of the socket is the secret.
func listen(string) (fd int, address string, err error) {
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		return -1, "", err
	}
	address = filepath.Join(dir, rand.Text())
	fd, err = bind(dir, address)
	if err != nil {
		os.Remove(address)
		os.Remove(dir)
		return -1, "", err
	}
	return fd, address, nil
}

func bind(dir, address string) (int, error) {
	fd, err := socket()
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		err = fmt.Errorf("bind %q: %w", address, err)
	}
	if err == nil {
		err = os.Chmod(address, 0o777)
	}
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func accept([]unix.SocketControlMessage, func(pid, uid int) bool) bool { return true }

// Trusted returns a function that trusts every process: the sender is not known on this system.
func Trusted(int) func(pid, uid int) bool { return func(int, int) bool { return true } }
