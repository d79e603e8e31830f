package process

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mountKey identifies a mounted file system. The ID of a mount alone does not: it is reused.
type mountKey struct {
	id           uint64
	major, minor uint32
}

// resolveCached makes openat2(2) fail with EAGAIN if the path is not in the kernel's cache:
// RESOLVE_CACHED of linux/openat2.h.
const resolveCached = 0x20

// isLocalFile reports whether the kernel has the file at path in its cache and the file is on a
// local file system. exists is false if the kernel knows that there is no such file. Linux before
// 5.12 does not offer that: there every file counts as local.
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

// localTypes are the file systems that depend on a disk at most, not on a network or another
// process.
var localTypes = map[string]bool{
	"bcachefs": true, "btrfs": true, "erofs": true, "ext2": true, "ext3": true, "ext4": true, "f2fs": true,
	"iso9660": true, "jfs": true, "overlay": true, "ramfs": true, "rootfs": true, "squashfs": true, "tmpfs": true,
	"vfat": true, "xfs": true, "zfs": true,
}

// isLocalMount reports whether the mount with this ID has a local type (proc_pid_mountinfo(5)).
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
