package pidfile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotRunning is wrapped by the error of Holder if the superdaemon has ended without removing its
// pid file.
var ErrNotRunning = errors.New("no superdaemon is running")

// Process is a running superdaemon, known by the lock on its pid file.
type Process struct {
	PID  int
	file File
}

// Holder opens the pid file of a running superdaemon. Unless the file is locked and holds a pid
// above 0, it returns an error that quotes the content. On Linux the process with that pid must
// have the file open: the number may come from another pid namespace, and belong to an unrelated
// process in this one. On other systems the process must exist.
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
		return fmt.Errorf("holds %q, which is not a pid", text)
	case free:
		return fmt.Errorf("holds %q, but is not locked: %w", text, ErrNotRunning)
	case errors.Is(unix.Kill(pid, 0), unix.ESRCH):
		return fmt.Errorf("holds %q, but there is no such process", text)
	}
	for attempt := 1; ; attempt++ { // during execve(2) the descriptors of a process are not shown
		err := proveOpen(p.file.descriptor, pid)
		if err == nil {
			break
		}
		if attempt == lockAttempts {
			return fmt.Errorf("holds %q, but %w", text, err)
		}
		time.Sleep(lockPause)
	}
	p.PID = pid
	return nil
}

// released reports whether no process holds the lock. It probes with a shared lock, so that two
// probes do not take each other for a superdaemon.
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

// Gone reports, without waiting, whether the superdaemon has released the lock or ended, or another
// pid file has taken the place of this one. A deleted pid file alone does not mean that the
// superdaemon is gone, nor does a lock that another process has taken mean that it is running.
func (p *Process) Gone() (bool, error) {
	free, err := p.released()
	if err != nil {
		return false, fmt.Errorf("lock pid file %q: %w", p.file.path, err)
	}
	ended := errors.Is(unix.Kill(p.PID, 0), unix.ESRCH)
	return free || p.replaced() || ended, nil
}

func (p *Process) replaced() bool {
	var here, there unix.Stat_t
	return unix.Fstat(p.file.descriptor, &here) == nil && unix.Stat(p.file.path, &there) == nil &&
		(here.Dev != there.Dev || here.Ino != there.Ino)
}

// Wait waits until the superdaemon is gone, or returns the error of ctx if that is done first. It
// does not wait for the lock itself, which other processes may wait for as well.
func (p *Process) Wait(ctx context.Context) error {
	tick := time.NewTicker(lockPause)
	defer tick.Stop()
	for {
		if gone, err := p.Gone(); gone || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Close closes the file.
func (p *Process) Close() error { return unix.Close(p.file.descriptor) }
