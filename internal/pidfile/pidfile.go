// Package pidfile keeps the pid file of a superdaemon: a pid and a newline, locked with flock(2)
// for the life of the superdaemon, as in Server::Starter 0.35. The lock decides whether a
// superdaemon runs; the number is for people and for kill(2).
package pidfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
)

// File is a pid file, locked with flock(2) while it is open.
type File struct {
	path       string
	descriptor int
}

// LockedError means that another process holds the lock. PID is its pid if that is known (Linux),
// else the number in the file, or 0 if there is none.
type LockedError struct {
	Path string
	PID  int
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("lock pid file %q: locked by another process", e.Path)
	}
	return fmt.Sprintf("lock pid file %q: locked by process %d", e.Path, e.PID)
}

// A process that only probes the lock, or that waited for a superdaemon to end, releases it at
// once.
const (
	lockAttempts = 10
	lockPause    = 10 * time.Millisecond
)

// endTime is the time that a process which was killed has to release the lock: a busy machine takes
// some to end it.
const endTime = 10 * time.Second

// Create opens the file (mode 0644 less the umask if it is new), locks it without waiting and
// writes the pid. It changes the file only while it holds the lock. The error is a *LockedError if
// another process holds the lock. A symbolic link and anything else that is not a regular file is
// an error.
func Create(path string, pid int) (*File, error) {
	patience := time.Now().Add(endTime)
	for attempt := 1; ; attempt++ {
		f, err := open(path)
		if err != nil {
			return nil, fmt.Errorf("open pid file %q: %w", path, err)
		}
		err = flock(f.descriptor, unix.LOCK_EX|unix.LOCK_NB)
		same, statErr := f.same()
		switch {
		case statErr != nil:
			err = fmt.Errorf("stat pid file %q: %w", path, statErr)
		case !same: // removed by its owner between open and lock
			unix.Close(f.descriptor)
			continue
		case err == nil:
			if err := f.write(pid); err != nil {
				return nil, errors.Join(err, f.Remove())
			}
			return f, nil
		case errors.Is(err, unix.EWOULDBLOCK) && (attempt < lockAttempts || f.isHolderEnding() && time.Now().Before(patience)):
			unix.Close(f.descriptor)
			time.Sleep(lockPause)
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			err = &LockedError{Path: path, PID: f.holder()}
		default:
			err = fmt.Errorf("lock pid file %q: %w", path, err)
		}
		unix.Close(f.descriptor)
		return nil, err
	}
}

// isHolderEnding reports whether the process that holds the lock was killed, or exits.
func (f *File) isHolderEnding() bool {
	pid := f.holder()
	return pid > 0 && process.Ending(pid)
}

// Adopt returns a File for the descriptor that a File had before an exec, which kept the lock. It
// sets the close-on-exec flag again.
func Adopt(path string, descriptor int) *File {
	unix.CloseOnExec(descriptor)
	return &File{path: path, descriptor: descriptor}
}

// Descriptor returns the file's descriptor, to keep the file and its lock across an exec.
func (f *File) Descriptor() int { return f.descriptor }

// Remove unlinks the path if it still leads to this file, and then releases the lock.
func (f *File) Remove() error {
	same, err := f.same()
	if same {
		err = ignoringInterrupts(func() error { return unix.Unlink(f.path) })
	}
	unix.Close(f.descriptor)
	if err != nil {
		return fmt.Errorf("remove pid file %q: %w", f.path, err)
	}
	return nil
}

func open(path string) (*File, error) {
	// O_NONBLOCK: opening a FIFO or a device, which is then rejected, must not block.
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := openRegular(path, flags)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EMLINK) { // EMLINK on FreeBSD
		err = errors.New("is a symbolic link")
	}
	var st unix.Stat_t
	if err == nil && unix.Fstat(fd, &st) == nil && st.Nlink > 1 {
		unix.Close(fd)
		err = errors.New("has another name, a hard link")
	}
	return &File{path: path, descriptor: fd}, err
}

func openRegular(path string, flags int) (fd int, err error) {
	err = ignoringInterrupts(func() error {
		fd, err = unix.Open(path, flags, 0o644)
		return err
	})
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// holder returns the pid of the process that holds the lock. It need not be the one that wrote the
// file: any process that may read the file can lock it.
func (f *File) holder() int {
	if pid := locker(f.descriptor); pid > 0 {
		return pid
	}
	pid, _ := parse(content(f.descriptor))
	return pid
}

// same reports whether the path still leads to this file.
func (f *File) same() (bool, error) {
	var here, there unix.Stat_t
	if err := unix.Fstat(f.descriptor, &here); err != nil {
		return false, err
	}
	err := ignoringInterrupts(func() error { return unix.Lstat(f.path, &there) })
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil && here.Dev == there.Dev && here.Ino == there.Ino, err
}

// write writes first and truncates afterwards, so that a reader never sees an empty file or a part
// of a number.
func (f *File) write(pid int) error {
	line := strconv.Itoa(pid) + "\n"
	n, err := unix.Pwrite(f.descriptor, []byte(line), 0)
	if err == nil && n < len(line) {
		err = unix.ENOSPC
	}
	if err == nil {
		err = unix.Ftruncate(f.descriptor, int64(len(line)))
	}
	if err != nil {
		return fmt.Errorf("write pid file %q: %w", f.path, err)
	}
	return nil
}

// content returns the first bytes of the file: enough for a pid, and few enough to quote in an
// error.
func content(fd int) string {
	b := make([]byte, 64)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// parse reads the pid in the first line, a decimal number above 0.
func parse(content string) (pid int, ok bool) {
	line, _, _ := strings.Cut(content, "\n")
	n, err := strconv.ParseUint(line, 10, 31)
	return int(n), err == nil && n > 0
}

func flock(fd, how int) error {
	return ignoringInterrupts(func() error { return unix.Flock(fd, how) })
}

func ignoringInterrupts(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
