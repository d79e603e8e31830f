package process

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// resolveCached makes openat2(2) fail with EAGAIN if the path is not in the kernel's cache:
// RESOLVE_CACHED of linux/openat2.h.
const resolveCached = 0x20

// isSurelyLocal reports whether starting the program waits for nothing but a disk of this machine:
// its directory and the file are in the kernel's cache and on a block device, and the file is not a
// script, whose interpreter may be elsewhere. Linux before 5.12 cannot report that: there every
// program counts as local.
func (spec Spec) isSurelyLocal() bool {
	if spec.Dir != "" {
		if local, _ := isLocalFile(spec.Dir); !local {
			return false
		}
	}
	for file := range candidates(spec.Args[0], spec.Env) {
		file = inDir(spec.Dir, file)
		local, exists := isLocalFile(file)
		if !local {
			return false
		}
		if exists && isExecutable(file) {
			return isELF(file)
		}
	}
	return true
}

// isLocalFile reports whether the kernel has the file in its cache, on a block device. exists is
// false if the kernel knows that there is no such file.
func isLocalFile(path string) (local, exists bool) {
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
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st)
	return err == nil && st.Dev_major != 0, true // 0: a network, a process or memory is behind it
}

func isELF(file string) bool {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var magic [4]byte
	_, err = unix.Read(fd, magic[:])
	return err == nil && bytes.Equal(magic[:], []byte("\x7fELF"))
}
