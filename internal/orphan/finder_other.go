//go:build !linux

package orphan

import (
	"errors"
	"slices"
	"syscall"
)

// A snapshot is of no use here.
type snapshot struct{}

// Take returns an error: only Linux has pidfd_getfd(2).
func (f *Finder) Take(Address) (Taken, error) {
	return Taken{}, &ForbiddenError{Err: errors.ErrUnsupported}
}

// IsAt returns false: no descriptor store passes sockets on.
func IsAt(string, int) bool { return false }

// TakeAll returns an error likewise.
func (f *Finder) TakeAll(Address) ([]Taken, error) {
	return nil, &ForbiddenError{Err: errors.ErrUnsupported}
}

// Adopt finds no workers.
func (f *Finder) Adopt(int, string) {}

// AdoptNamed finds no workers. It returns the pids that the status file names, and that are in use.
func (f *Finder) AdoptNamed() (others []int) {
	for pid := range f.status.generations {
		if pid > 1 && syscall.Kill(pid, 0) != syscall.ESRCH {
			others = append(others, pid)
		}
	}
	slices.Sort(others)
	return others
}

// Close does nothing.
func (f *Finder) Close() {}

// Signal returns an error. It is never called, since no process is found.
func (p Process) Signal(syscall.Signal) error { return errors.ErrUnsupported }

// MarkStopSent does nothing: no worker is taken over from a superdaemon that was killed.
func MarkStopSent(int) {}

// Open returns an error: only Linux has pidfd_open(2).
func Open(int) (Process, error) { return Process{}, errors.ErrUnsupported }
