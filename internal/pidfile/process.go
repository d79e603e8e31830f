package pidfile

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a running superdaemon, known by the lock on its pid file.
type Process struct {
	PID  int
	file File
}

// Holder opens the pid file of a running superdaemon. It is an error, which quotes what the file holds, unless that is a pid above 0
// and the file is locked by a live process; where /proc/locks names the holder of the lock (Linux), it must be that pid.
func Holder(path string) (*Process, error) {
	fd, err := openRegular(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, fmt.Errorf("open pid file %q: %w", path, err)
	}
	p := &Process{file: File{path: path, descriptor: fd}}
	if err := p.identify(); err != nil {
		p.Close()
		return nil, fmt.Errorf("pid file %q: %w", path, err)
	}
	return p, nil
}

func (p *Process) identify() error {
	text := content(p.file.descriptor)
	free, err := p.released()
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	pid, ok := parse(text)
	switch {
	case !ok:
		return fmt.Errorf("it holds %q, which is no process id", text)
	case free:
		return fmt.Errorf("it holds %q, but is not locked: no superdaemon is running", text)
	case errors.Is(unix.Kill(pid, 0), unix.ESRCH):
		return fmt.Errorf("it holds %q, but there is no such process", text)
	}
	if locker := locker(p.file.descriptor); locker > 0 && locker != pid {
		return fmt.Errorf("it holds %q, but is locked by process %d", text, locker)
	}
	p.PID = pid
	return nil
}

// released reports whether nobody holds the lock. The probe is shared, so that two of them do not take each other for a superdaemon.
func (p *Process) released() (bool, error) {
	err := flock(p.file.descriptor, unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, flock(p.file.descriptor, unix.LOCK_UN)
}

// Gone reports, without waiting, whether the superdaemon has let go of the lock, or is no more, or another pid file has taken
// the place. A pid file that was merely deleted says nothing about the superdaemon; nor does a lock that somebody else has taken.
func (p *Process) Gone() (bool, error) {
	free, err := p.released()
	if err != nil {
		return false, fmt.Errorf("lock pid file %q: %w", p.file.path, err)
	}
	return free || p.replaced() || errors.Is(unix.Kill(p.PID, 0), unix.ESRCH), nil
}

func (p *Process) replaced() bool {
	var here, there unix.Stat_t
	return unix.Fstat(p.file.descriptor, &here) == nil && unix.Stat(p.file.path, &there) == nil &&
		(here.Dev != there.Dev || here.Ino != there.Ino)
}

// Wait returns when the superdaemon is gone. It does not wait in the queue for the lock, where anybody could stand before it.
func (p *Process) Wait() error {
	for {
		if gone, err := p.Gone(); gone || err != nil {
			return err
		}
		time.Sleep(lockPause)
	}
}

// Close closes the file.
func (p *Process) Close() error { return unix.Close(p.file.descriptor) }

// locker returns the process that holds a write lock by flock(2) on the file, as proc_locks(5) has it, or 0 where that is unknown
// (no /proc, another pid namespace, a file system whose device there is not the one that stat(2) tells).
func locker(fd int) int {
	var st unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstat(fd, &st) != nil {
		return 0
	}
	dev := uint64(st.Dev)
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(dev), unix.Minor(dev), st.Ino)
	return findLocker(string(locks), file)
}

// findLocker reads lines like "1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF"; one with "->" behind the number is waiting.
func findLocker(locks, file string) int {
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) > 5 && f[1] == "FLOCK" && f[3] == "WRITE" && f[5] == file {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}
