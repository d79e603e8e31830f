package starter

// The guard of an upgrade is the candidate: it keeps running until the upgraded superdaemon
// receives signals. Just before, TERM, QUIT and ABRT can end the superdaemon, while its Go runtime
// starts. Then the guard does what the superdaemon would have done: it stops the workers, waits for
// them and removes the files.

import (
	"context"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/statusfile"
)

// The descriptors of a guard.
const (
	guardState   = 3 // the state, rewritten just before the exec
	guardPipe    = 4 // messages of the superdaemon; end of file means that it has ended
	guardPIDFile = 5 // if there is one: the lock stays while it is open
)

// The messages of the superdaemon to the guard, a byte each.
const (
	guardBegin = 'b' // the exec begins
	guardEnd   = 'e' // it has succeeded or failed, and a superdaemon receives signals
)

// guardAnswer is the answer of a candidate that becomes the guard.
const guardAnswer = "guarding the upgrade\n"

// guard waits until the upgrade is over. If the superdaemon has ended in it, guard stops the
// workers.
func guard(c Config, w io.Writer) error {
	signals.Catch() // ignore signals to the process group
	unix.CloseOnExec(guardPipe)
	unix.CloseOnExec(guardPIDFile)
	if _, err := io.WriteString(w, guardAnswer); err != nil {
		return err
	}
	if readGuardPipe() != guardBegin {
		return nil
	}
	u, err := readStateFile(guardState)
	if err != nil {
		return err
	}
	processes := openWorkers(u.State.all())
	if readGuardPipe() == guardEnd {
		return nil
	}
	return finish(c, u, processes)
}

// readGuardPipe returns the next message of the superdaemon, or 0 if it has ended.
func readGuardPipe() byte {
	var b [1]byte
	for {
		n, err := unix.Read(guardPipe, b[:])
		switch {
		case n == 1:
			return b[0]
		case err != unix.EINTR:
			return 0
		}
	}
}

// openWorkers opens the living workers. Their pids are valid: the superdaemon is in the exec and
// reaps none.
func openWorkers(workers []*worker) (list []orphan.Process) {
	for _, w := range workers {
		if p, err := orphan.Open(w.PID); err == nil && !w.Dead {
			list = append(list, p)
		}
	}
	return list
}

// finish runs the last phase of the superdaemon that has ended in its upgrade, with its workers as
// adopted ones.
func finish(c Config, u *upgradeState, processes []orphan.Process) error {
	d := newSuperdaemon(c)
	d.log = resumeLog("", nil, logState{}, d.loop.wakeUp) // standard error is the log already
	for _, s := range u.Sockets {
		s.FD = -1
	}
	d.sockets.list = u.Sockets
	if u.PIDFile >= 0 {
		d.pidFile = pidfile.Adopt(c.PIDFile, guardPIDFile)
	}
	d.loop.state = u.State
	d.loop.epoch = time.Now().Add(-u.Now)
	known := map[int]bool{}
	for _, p := range processes {
		d.workers.adopted.add(p)
		known[p.PID] = true
	}
	d.status.plain.resume(u, statusfile.Encode(d.loop.startedWorkers()))
	d.loop.first = func() {
		for _, w := range u.State.all() {
			if !known[w.PID] {
				d.loop.onExit(w.PID, statusUnknown)
			}
		}
		d.logLine(msgEndedInUpgrade(os.Getpid()))
		d.loop.stop(syscall.SIGTERM)
	}
	d.loop.run(context.Background())
	d.close()
	return d.loop.failure
}
