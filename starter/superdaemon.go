package starter

import (
	"os"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/listening"
	"github.com/start-server/start-server/internal/manager"
	"github.com/start-server/start-server/internal/output"
	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/queue"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/status"
	"github.com/start-server/start-server/internal/steer"
	"github.com/start-server/start-server/internal/supervisor"
	"github.com/start-server/start-server/internal/upgrade"
	"github.com/start-server/start-server/internal/waitstatus"
	"github.com/start-server/start-server/internal/workers"
)

// superdaemon connects the supervisor with the parts that act for it. It makes no decisions.
type superdaemon struct {
	config  Config
	output  *output.Output
	files   files
	sockets *listening.Sockets
	manager *manager.Manager
	events  *queue.Queue[Event]
	loop    *loop

	environment *workers.Environment
	workers     *workers.Workers
	upgrade     *upgrade.Upgrader
}

// files are those that tell others about the superdaemon: the pid file, the status file of
// Server::Starter, and the status in JSON, which is published without a file as well.
type files struct {
	pid          *pidfile.File
	status, json *status.File
	published    status.Published
}

// newSuperdaemon returns a superdaemon that has opened nothing yet.
func newSuperdaemon(c Config) *superdaemon {
	d := &superdaemon{config: c, events: queue.New(c.OnEvent)}
	d.loop = newLoop(supervisor.New(c.rules(), c.hints(), d), d, signals.Catch())
	d.sockets = listening.New(c.sockets(), process.Inherited(), d.Log)
	d.environment = workers.NewEnvironment(c.environment(), os.Environ(), d.Log)
	d.workers = workers.New(c.program(d.sockets), d.environment, d.loop.notices, d.loop.wakeUp)
	d.files = files{
		status: status.NewFile(c.StatusFile, d.loop.wakeUp, d.Log),
		json:   status.NewFile(c.StatusJSON, d.loop.wakeUp, d.Log),
	}
	d.manager = manager.New(d.Log)
	d.upgrade = upgrade.New(process.Executable(), d.saveState, d.Log)
	return d
}

// outputOptions returns how the log is written.
func (d *superdaemon) outputOptions(detached bool) output.Options {
	return output.Options{
		To: d.config.LogFile, Prefix: d.config.LogPrefix, Env: d.environment.ForLogCommand,
		Detached: detached, Wake: d.loop.wakeUp,
	}
}

// blocking returns how many goroutines may be in long system calls at once: the loop, the writer of
// the log, and those that only some options need.
func (d *superdaemon) blocking() int {
	n := 2
	for _, optional := range []bool{
		d.config.StatusFile != "", d.config.StatusJSON != "", d.environment.ReadsDir(), d.config.OnEvent != nil,
		d.config.AcceptTimeout > 0,
	} {
		if optional {
			n++
		}
	}
	return n
}

func (d *superdaemon) RunPending() time.Duration {
	if d.loop.Phase >= supervisor.Stopping { // a stop cannot continue after an upgrade
		d.upgrade.Cancel()
	}
	return min(d.output.RunPending(), d.manager.RunPending(), d.upgrade.RunPending(),
		d.files.status.RunPending(), d.files.json.RunPending())
}

// Reap returns a worker that has died, a child or an adopted one. It handles the death of the log
// command and of the candidate of an upgrade.
func (d *superdaemon) Reap() (pid, status int, ok bool) {
	for {
		pid, status, ok = process.Reap()
		if !ok {
			status = waitstatus.Unknown
			pid, ok = d.workers.ReapAdopted()
		} else if d.output.OnExit(pid) || d.upgrade.OnExit(pid, status) {
			continue
		}
		d.workers.KillLeft(pid)
		if ok && d.sockets.Mend() {
			d.loop.OnSocketReplaced()
		}
		return pid, status, ok
	}
}

func (d *superdaemon) Settings() supervisor.Settings { return d.environment.Settings() }

func (d *superdaemon) Start(generation int) (pid int, err error) {
	d.sockets.Mend()
	d.steer()
	if err := d.sockets.Place(generation); err != nil {
		return 0, err
	}
	return d.workers.Start(generation, d.loop.StartedAt > 0)
}

func (d *superdaemon) Signal(pid int, sig syscall.Signal) {
	d.steer() // before the worker stops to accept
	if err := d.workers.Signal(pid, sig); err != nil {
		d.Log(lines.NotSent(sig, pid, err))
	}
}

func (d *superdaemon) Executed(pid int) bool { return !process.IsTrampoline(pid) }

func (d *superdaemon) Forget(pid int) { d.workers.Forget(pid) }

func (d *superdaemon) WriteStatus(started []*supervisor.Worker) {
	d.steer()
	d.files.status.Write(encodeStatus(started))
}

// steer gives the packets of the steered ports to the present workers. A stop leaves them where they
// are: there is no next worker to wait for.
func (d *superdaemon) steer() {
	if !d.config.SteerUDP || d.loop.Phase >= supervisor.Stopping {
		return
	}
	var living []steer.Worker
	for _, w := range d.loop.Workers() {
		living = append(living, steer.Worker{Generation: w.Generation, Started: w.Started, StopSent: w.StopSent})
	}
	d.sockets.Route(living)
}

// encodeStatus returns the text of the status file.
func encodeStatus(started []*supervisor.Worker) []byte {
	list := make([]status.Worker, len(started))
	for i, w := range started {
		list[i] = status.Worker{Generation: w.Generation, PID: w.PID}
	}
	return status.Encode(list)
}

// StepDone writes and publishes the JSON status if the step has changed it.
func (d *superdaemon) StepDone() {
	if d.loop.Phase != supervisor.Stopped {
		text := d.report().Encode()
		d.files.published.Write(text)
		d.files.json.Write(text)
	}
}

func (d *superdaemon) Notify(state string) { d.manager.Notify(state) }

func (d *superdaemon) ReopenLog() { d.output.Reopen() }

func (d *superdaemon) Log(line string) { d.output.Print(line) }

func (d *superdaemon) StartUpgrade() { d.upgrade.Start() }

func (d *superdaemon) Emit(e supervisor.Event) { d.events.Add(publicEvent(e)) }

// close closes and removes everything. The pid file comes last, so that a process that waits for
// its lock waits until everything else is done.
func (d *superdaemon) close() {
	d.sockets.Close()
	d.files.status.Close()
	d.files.json.Close()
	d.files.published.Close()
	d.workers.Close()
	d.upgrade.Cancel()
	if d.output != nil {
		d.output.Close()
	}
	if d.files.pid != nil {
		_ = d.files.pid.Remove()
	}
	d.events.Close()
}
