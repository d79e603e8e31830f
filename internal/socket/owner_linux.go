package socket

import (
	"errors"

	"golang.org/x/sys/unix"
)

// chownSocket changes the owner of a socket file that this process has just made. In a directory that
// others can write to, another file may have been put in its place: that one is left alone.
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
