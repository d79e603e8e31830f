package process

import (
	"bytes"
	"path/filepath"

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
	fd, err := openCached(path)
	switch err {
	case nil:
		defer unix.Close(fd)
		return onDisk(fd), true
	case unix.EAGAIN:
		return isForbidden(filepath.Dir(path)), false
	case unix.ENOSYS, unix.EPERM, unix.EINVAL: // an old kernel, or a filter of system calls
		return true, true
	}
	return true, false
}

// isForbidden reports whether the path leads through a directory on a disk that this process may
// not search: the kernel's answer to that is EAGAIN as well.
func isForbidden(dir string) bool {
	fd, err := openCached(dir)
	if err == unix.EAGAIN && dir != "/" && dir != "." {
		return isForbidden(filepath.Dir(dir))
	}
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return onDisk(fd) && unix.Faccessat(fd, ".", unix.X_OK, 0) == unix.EACCES
}

func openCached(path string) (fd int, err error) {
	return unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolveCached})
}

// onDisk reports whether an open file is on a block device, not behind a network or a process.
func onDisk(fd int) bool {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st)
	return err == nil && st.Dev_major != 0
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
