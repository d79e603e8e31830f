//go:build !linux

package orphan

import (
	"errors"
	"syscall"
)

// Take finds nothing: no other system has pidfd_getfd(2).
func (f *Finder) Take(Address) (Taken, error) {
	return Taken{}, &ForbiddenError{Err: errors.ErrUnsupported}
}

// Adopt finds nothing.
func (f *Finder) Adopt(int, string) {}

// AdoptNamed finds nothing.
func (f *Finder) AdoptNamed() {}

// Close has nothing to close.
func (f *Finder) Close() {}

// Signal is never called: no process is found.
func (p Process) Signal(syscall.Signal) error { return errors.ErrUnsupported }

// MarkStopSent does nothing: no worker is taken over from a superdaemon that is killed.
func MarkStopSent(int) {}

// Open is for Linux.
func Open(int) (Process, error) { return Process{}, errors.ErrUnsupported }
