// Package orphan finds the workers that a superdaemon left behind when it was killed, and takes
// over their sockets.
//
// It finds a socket by its address (/proc/net, sock_diag(7)), and the processes that hold it by
// their descriptors (/proc/PID/fd). A worker is the topmost of these in its process tree, if a
// start_server passed it the socket: SERVER_STARTER_PORT in its environment names the address, or
// the status file names the process. A job that a worker has started in a session of its own is no
// worker, unless the status file names it. If any other process holds the socket (a running superdaemon,
// for example), it is not taken. The descriptor is copied by pidfd_getfd(2), Linux 5.6: the copy is
// the same open file description, with the same queue.
package orphan

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Worker is a process that was started by a superdaemon that is gone.
type Worker struct {
	Process
	Generation int  // from the status file, else from SERVER_STARTER_GENERATION, else 0
	StopSent   bool // see MarkStopSent
}

// A Taken socket is a copy of a worker's descriptor, close-on-exec.
type Taken struct {
	FD          int
	From        int   // the pid of the process that it was copied from
	Generations []int // of the workers that hold it
}

// A Finder looks for workers and collects those that it finds.
type Finder struct {
	// Pause waits while Take waits for other processes. An error ends Take, which returns it.
	Pause func(time.Duration) error

	status  leftStatus
	workers map[int]*Worker
	near    snapshot // for Adopt, nil until it is needed
}

// NewFinder returns a Finder that uses the status file which a superdaemon may have left, or none
// if statusFile is "". The file is used only if it is a regular file that belongs to this user or
// root, and that no other user can write.
func NewFinder(statusFile string) *Finder {
	pause := func(d time.Duration) error {
		time.Sleep(d)
		return nil
	}
	return &Finder{Pause: pause, status: readStatus(statusFile), workers: map[int]*Worker{}}
}

// ErrNone means that no worker of a superdaemon that is gone holds the socket, or that another
// process holds it as well.
var ErrNone = errors.New("no worker of a start_server that is gone holds the socket")

// ErrUnseen means that no process in /proc holds the socket.
var ErrUnseen = errors.New("no process that is visible here holds it: it may be in another container or pid namespace")

// A DetachedError means that only jobs hold the socket which a worker has started in a session of
// their own (setsid(2)).
type DetachedError struct {
	PID int // of one of them
}

func (e *DetachedError) Error() string {
	return fmt.Sprintf("process %d holds it: a job that a worker of start_server has started in a session of its own; stop it first", e.PID)
}

// An ownerError is the user that created a socket, neither this one nor root.
type ownerError uint32

func (e ownerError) Error() string {
	return fmt.Sprintf("the socket was created by user %d", uint32(e))
}

// A ForbiddenError means that a worker may hold the socket, but the kernel does not allow taking it
// over, or another user has created it.
type ForbiddenError struct {
	PID int // of the worker; 0 if the kernel does not even show which process holds the socket
	Err error
}

func (e *ForbiddenError) Error() string {
	const needs = "root or CAP_SYS_PTRACE, or the same user and kernel.yama.ptrace_scope=0"
	var owner ownerError
	switch {
	case errors.As(e.Err, &owner):
		return fmt.Sprintf("it is not taken over from worker %d of a start_server that was killed: %v", e.PID, owner)
	case errors.Is(e.Err, errors.ErrUnsupported):
		return "if a worker of a start_server that was killed holds it, taking it over needs Linux 5.6 or later"
	case e.PID == 0:
		return "if a worker of a start_server that was killed holds it, taking it over needs " + needs
	}
	return fmt.Sprintf("taking it over from worker %d of a start_server that was killed needs %s: %v", e.PID, needs, e.Err)
}

func (e *ForbiddenError) Unwrap() error { return e.Err }

// Workers returns the workers found since the last call, oldest first. The caller has to close
// their descriptors.
func (f *Finder) Workers() (list []Worker) {
	oldestFirst := func(a, b *Worker) int {
		return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.PID, b.PID))
	}
	for _, w := range slices.SortedFunc(maps.Values(f.workers), oldestFirst) {
		list = append(list, *w)
	}
	clear(f.workers)
	return list
}
