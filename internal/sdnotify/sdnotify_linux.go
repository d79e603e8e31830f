package sdnotify

import (
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
)

const (
	abstract        = true
	credentialsSize = unix.SizeofUcred
	receiveFlags    = unix.MSG_CMSG_CLOEXEC
)

func socket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return fd, os.NewSyscallError("socket", err)
}

func listen(name string) (fd int, address string, err error) {
	fd, err = socket()
	if err != nil {
		return -1, "", err
	}
	// Before bind, so that every datagram comes with its sender's credentials.
	err = os.NewSyscallError("setsockopt SO_PASSCRED", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	var random [16]byte // linking crypto/rand would add a tenth of a millisecond to every start
	if err == nil {
		_, err = unix.Getrandom(random[:], 0)
	}
	address = "@" + name + "/" + hex.EncodeToString(random[:])
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: address}))
	}
	if err != nil {
		unix.Close(fd)
		return -1, "", fmt.Errorf("%q: %w", address, err)
	}
	return fd, address, nil
}

func accept(control []unix.SocketControlMessage, trusted func(pid, uid int) bool) bool {
	for _, c := range control {
		if sender, err := unix.ParseUnixCredentials(&c); err == nil {
			return trusted(int(sender.Pid), int(sender.Uid))
		}
	}
	return false
}

// Trusted returns a function that reports whether a sender may notify on behalf of the worker:
// root, this user, the worker and its descendants, and any process of a user that the worker runs
// as, since a sender has often ended before it can be examined (systemd-notify in a shell worker).
func Trusted(worker int) func(pid, uid int) bool {
	return func(pid, uid int) bool {
		return uid == 0 || uid == os.Geteuid() || runsAs(worker, uid) || descends(pid, worker)
	}
}

// runsAs reports whether uid is the process's real, effective, saved or file system user ID
// (proc_pid_status(5)).
func runsAs(pid, uid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			for _, id := range strings.Fields(ids) {
				if id == strconv.Itoa(uid) {
					return true
				}
			}
		}
	}
	return false
}

// descends reports whether pid is the ancestor or one of its descendants.
func descends(pid, ancestor int) bool {
	// Bounded, because the tree may change meanwhile.
	for range 1000 {
		if pid == ancestor {
			return pid > 0
		}
		if pid <= 1 {
			return false
		}
		stat, _ := process.ReadStat(pid)
		pid = stat.Parent // 0 if it is unknown
	}
	return false
}
