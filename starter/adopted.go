package starter

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/orphan"
)

// adopted are the workers that another superdaemon has started, and left when it was killed. They
// are not children: their end is seen by a pidfd, and how they ended is not known.
type adopted struct {
	processes map[int]*adoptedProcess // by pid
	wakeUp    func()                  // makes the loop look which of them have ended
}

type adoptedProcess struct {
	orphan.Process
	close func()
}

func newAdopted(wakeUp func()) *adopted {
	return &adopted{processes: map[int]*adoptedProcess{}, wakeUp: wakeUp}
}

// add watches a process from now on.
func (a *adopted) add(p orphan.Process) {
	a.processes[p.PID] = &adoptedProcess{Process: p, close: p.Watch(a.wakeUp)}
}

// reap returns one that has ended, and forgets it.
func (a *adopted) reap() (pid int, ok bool) {
	for pid, p := range a.processes {
		if p.Exited() {
			a.forget(pid)
			return pid, true
		}
	}
	return 0, false
}

// forget closes what belongs to a process.
func (a *adopted) forget(pid int) {
	if p := a.processes[pid]; p != nil {
		p.close()
		delete(a.processes, pid)
	}
}

// signal sends a worker, adopted or a child, a signal to stop. One that has ended is no error.
func (a *adopted) signal(pid int, sig syscall.Signal) error {
	var err error
	if p := a.processes[pid]; p != nil {
		err = p.Signal(sig)
	} else {
		err = unix.Kill(pid, sig)
	}
	if err == nil {
		orphan.MarkStopSent(pid)
	}
	if err == unix.ESRCH {
		return nil
	}
	return err
}

func (a *adopted) save(u *upgradeState) {
	for pid, p := range a.processes {
		u.Adopted = append(u.Adopted, adoptedState{Worker: pid, Descriptor: p.Descriptor})
	}
}

func (a *adopted) resume(u *upgradeState) {
	for _, s := range u.Adopted {
		a.add(orphan.Process{PID: s.Worker, Descriptor: s.Descriptor})
	}
}
