package starter

import (
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/status"
)

// superdaemon connects the supervisor with the parts that act for it. It makes no decisions.
type superdaemon struct {
	config   Config
	log      *log
	pidFile  *pidfile.File
	sockets  *sockets
	workers  *workers
	status   statusFiles
	notifier *notifier
	upgrade  *upgrader
	events   *eventQueue
	loop     *loop
}

// statusFiles are the status files: that of Server::Starter, and the one in JSON, which is published
// without a file as well.
type statusFiles struct {
	plain, json *status.File
	published   status.Published
}

// newSuperdaemon returns a superdaemon that has opened nothing yet.
func newSuperdaemon(c Config) *superdaemon {
	d := &superdaemon{config: c, events: newEventQueue(c.OnEvent)}
	d.loop = newLoop(newSupervisor(c.rules(), d), d, signals.Catch())
	d.sockets = newSockets(c, process.Inherited())
	d.sockets.kept = newFDStore(os.Getenv, d.logLine)
	d.workers = newWorkers(c, newEnvironment(c, os.Environ(), d.logLine), d.sockets, d.loop)
	d.status = statusFiles{
		plain: status.NewFile(c.StatusFile, d.loop.wakeUp, d.logLine),
		json:  status.NewFile(c.StatusJSON, d.loop.wakeUp, d.logLine),
	}
	d.notifier = newNotifier(d.logLine)
	d.upgrade = &upgrader{executable: process.Executable(), save: d.saveState, exec: d.exec, log: d.logLine}
	return d
}

// blocking returns how many goroutines may be in long system calls at once: the loop, the writer of
// the log, and those that only some options need.
func (d *superdaemon) blocking() int {
	n := 2
	for _, optional := range []bool{
		d.config.StatusFile != "", d.config.StatusJSON != "", d.workers.environment.dir != "", d.config.OnEvent != nil,
		d.config.AcceptTimeout > 0,
	} {
		if optional {
			n++
		}
	}
	return n
}

func (d *superdaemon) runPending() time.Duration {
	if d.loop.Phase >= stopping { // a stop cannot continue after an upgrade
		d.upgrade.cancel()
	}
	var waits []time.Duration
	for _, runPending := range []func() time.Duration{
		d.log.runPending, d.notifier.runPending, d.workers.environment.runPending, d.upgrade.runPending,
		d.status.plain.RunPending, d.status.json.RunPending,
	} {
		if wait := runPending(); wait > 0 {
			waits = append(waits, wait)
		}
	}
	if len(waits) == 0 {
		return 0
	}
	return slices.Min(waits)
}

// reap returns a worker that has died, a child or an adopted one. It handles the death of the log
// command and of the candidate of an upgrade.
func (d *superdaemon) reap() (pid, status int, ok bool) {
	for {
		pid, status, ok = process.Reap()
		if !ok {
			status = statusUnknown
			pid, ok = d.workers.adopted.reap()
		} else if d.log.onExit(pid) || d.upgrade.onExit(pid, status) {
			continue
		}
		d.workers.copies.KillLeft(pid)
		if ok && d.sockets.mend(d.logLine) {
			d.loop.onSocketReplaced()
		}
		return pid, status, ok
	}
}

func (d *superdaemon) currentSettings() settings { return d.workers.environment.current() }

func (d *superdaemon) start(generation int) (int, error) {
	d.sockets.mend(d.logLine)
	d.steer()
	if err := d.sockets.place(generation); err != nil {
		return 0, err
	}
	return d.workers.start(generation, d.loop.StartedAt > 0)
}

func (d *superdaemon) signal(pid int, sig syscall.Signal) {
	d.steer() // before the worker stops to accept
	d.workers.unwatch(pid)
	if err := d.workers.adopted.signal(pid, sig); err != nil {
		d.logLine(msgNotSent(sig, pid, err))
	}
}

func (d *superdaemon) executed(pid int) bool { return !process.IsTrampoline(pid) }

func (d *superdaemon) forget(pid int) { d.workers.forget(pid) }

func (d *superdaemon) writeStatus(workers []status.Worker) {
	d.steer()
	d.status.plain.Write(status.Encode(workers))
}

// stepDone writes and publishes the JSON status if the step has changed it.
func (d *superdaemon) stepDone() {
	if d.loop.Phase != stopped {
		text := d.report().Encode()
		d.status.published.Write(text)
		d.status.json.Write(text)
	}
}

func (d *superdaemon) notify(state string) { d.notifier.notify(state) }

func (d *superdaemon) reopenLog() { d.log.reopen() }

func (d *superdaemon) logLine(line string) { d.log.print(line) }

func (d *superdaemon) startUpgrade() { d.upgrade.start() }

func (d *superdaemon) emit(e Event) { d.events.add(e) }

// close closes and removes everything. The pid file comes last, so that a process that waits for
// its lock waits until everything else is done.
func (d *superdaemon) close() {
	d.sockets.close()
	d.status.plain.Close()
	d.status.json.Close()
	d.status.published.Close()
	d.workers.close()
	d.upgrade.cancel()
	if d.log != nil {
		d.log.close()
	}
	if d.pidFile != nil {
		_ = d.pidFile.Remove()
	}
	d.events.close()
}
