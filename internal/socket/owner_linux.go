package socket

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/account"
)

// chownSocket changes the owner of a socket file that this process has just made. In a directory
// that other users can write to, another file may have taken its place: that one is not changed.
func chownSocket(path string, uid, gid int) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Nlink != 1 || int(st.Uid) != unix.Geteuid() {
		return errors.New("another file has taken its place")
	}
	return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

// SetAccess changes the access to a unix socket that was taken over. It does not touch a file that
// has this access already.
func (s *Socket) SetAccess(access Access) error {
	if s.Path == "" {
		return nil
	}
	fd, err := unix.Open(s.Path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set the access to %q: %w", s.Path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (uint64(st.Dev) != s.Device || st.Ino != s.Inode) {
		err = errors.New("another file has taken its place")
	}
	if err == nil && !owns(access.Owner, &st) {
		err = unix.Fchownat(fd, "", access.Owner.UID, access.Owner.GID, unix.AT_EMPTY_PATH)
	}
	if err == nil && st.Mode&0o777 != access.Mode {
		err = unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), access.Mode)
	}
	if err != nil {
		return fmt.Errorf("set the access to %q: %w", s.Path, err)
	}
	return nil
}

// owns reports whether a file has the requested owner.
func owns(o account.Owner, st *unix.Stat_t) bool {
	return (o.UID == account.Unchanged || o.UID == int(st.Uid)) && (o.GID == account.Unchanged || o.GID == int(st.Gid))
}
