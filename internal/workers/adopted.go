package workers

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/process"
)

// adopted holds the workers that another superdaemon started and left behind when it was killed.
// They are not children: a pidfd reports their end, and their exit status is unknown.
type adopted struct {
	processes map[int]*adoptedProcess // by pid
	wakeUp    func()                  // makes the loop reap those that have ended
}

type adoptedProcess struct {
	orphan.Process
	close func()
}

func newAdopted(wakeUp func()) *adopted {
	return &adopted{processes: map[int]*adoptedProcess{}, wakeUp: wakeUp}
}

// add adds a process and watches for its end.
func (a *adopted) add(p orphan.Process) {
	a.processes[p.PID] = &adoptedProcess{Process: p, close: p.Watch(a.wakeUp)}
}

// reap removes a worker that has ended and returns its pid. ok is false if there is none.
func (a *adopted) reap() (pid int, ok bool) {
	for pid, p := range a.processes {
		if p.Exited() {
			a.forget(pid)
			return pid, true
		}
	}
	return 0, false
}

// forget closes the pidfd of a process.
func (a *adopted) forget(pid int) {
	if p := a.processes[pid]; p != nil {
		p.close()
		delete(a.processes, pid)
	}
}

// signal sends a signal to stop to a worker, adopted or a child. KILL ends the processes below it as
// well. If the worker has ended, that is not an error.
func (a *adopted) signal(pid int, sig syscall.Signal) error {
	send := func(sig syscall.Signal) error { return unix.Kill(pid, sig) }
	if p := a.processes[pid]; p != nil {
		send = p.Signal
	}
	if sig == syscall.SIGKILL && send(syscall.SIGSTOP) == nil {
		process.KillBelow(pid)
	}
	err := send(sig)
	if err == nil {
		orphan.MarkStopSent(pid)
	}
	if err == unix.ESRCH {
		return nil
	}
	return err
}
