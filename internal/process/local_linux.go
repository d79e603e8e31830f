package process

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mountKey identifies what is mounted: the id of a mount is given to another one later.
type mountKey struct {
	id           uint64
	major, minor uint32
}

// resolveCached makes openat2(2) fail with EAGAIN if the path is not in the kernel's cache: RESOLVE_CACHED of
// linux/openat2.h.
const resolveCached = 0x20

// isLocalFile reports whether the kernel knows what is at path without asking a file system, and
// that it is on a local one. exists is false if the kernel knows that there is nothing. Linux before
// 5.12 cannot tell: there everything is taken for local.
func (c *FileCheck) isLocalFile(path string) (ok, exists bool) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: resolveCached,
	})
	switch err {
	case nil:
	case unix.EAGAIN:
		return false, false
	case unix.ENOSYS, unix.EPERM, unix.EINVAL: // an old kernel, or a filter of system calls
		return true, true
	default:
		return true, false
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	const cached = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	if err := unix.Statx(fd, "", cached, unix.STATX_MNT_ID, &st); err != nil {
		return false, true
	}
	mount := mountKey{st.Mnt_id, st.Dev_major, st.Dev_minor}
	local, known := c.local[mount]
	if !known {
		local = isLocalMount(mount.id)
		if c.local == nil || len(c.local) > 100 {
			c.local = map[mountKey]bool{}
		}
		c.local[mount] = local
	}
	return local, true
}

// localTypes are the file systems that wait for a disk or for nothing: not for a network, and not
// for another process.
var localTypes = map[string]bool{
	"bcachefs": true, "btrfs": true, "erofs": true, "ext2": true, "ext3": true, "ext4": true, "f2fs": true,
	"iso9660": true, "jfs": true, "overlay": true, "ramfs": true, "rootfs": true, "squashfs": true, "tmpfs": true,
	"vfat": true, "xfs": true, "zfs": true,
}

// isLocalMount looks up the type of a mount by its id (proc_pid_mountinfo(5)).
func isLocalMount(id uint64) bool {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	prefix := strconv.AppendUint(nil, id, 10)
	for line := range bytes.Lines(mounts) {
		number, rest, _ := bytes.Cut(line, []byte(" "))
		if !bytes.Equal(number, prefix) {
			continue
		}
		_, rest, _ = bytes.Cut(rest, []byte(" - "))
		kind, _, _ := bytes.Cut(rest, []byte(" "))
		return localTypes[string(kind)]
	}
	return false
}
