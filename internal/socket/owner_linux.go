package socket

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

func (s *Socket) setAccess(access Access) error {
	fd, err := unix.Open(s.Path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (uint64(st.Dev) != s.Device || st.Ino != s.Inode) {
		err = errors.New("another file has taken its place")
	}
	if err == nil && !owns(access.Owner, &st) {
		if err := unix.Fchownat(fd, "", access.Owner.UID, access.Owner.GID, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("change owner to %s: %w", access.Owner, err)
		}
	}
	if err == nil && uint32(st.Mode)&0o777 != access.Mode {
		err = unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), access.Mode)
		if err == unix.ENOENT { // no /proc
			err = unix.Fchmodat(fd, "", access.Mode, unix.AT_EMPTY_PATH) // Linux 6.6
		}
	}
	return err
}
