// Package starter implements the superdaemon: it binds sockets, starts a server program with them,
// and replaces it with a new process without ever closing them.
//
// The command start_server adds a command line to this package; start_server(1) describes it. Other
// programs can run a superdaemon as well:
//
//	c := starter.NewConfig("./server", "--verbose")
//	c.Ports = []string{"8080"}
//	err := starter.Run(ctx, c)
//
// Run supervises the server until it is told to stop, and takes over the whole process meanwhile.
// It calls Config.OnEvent for each event. A Runner can restart the server without a signal. To
// detach (Config.Daemonize) and to upgrade itself (USR2), Run starts its own executable again with
// the same arguments; for an upgrade the program's --version must call AnswerUpgradeCheck, or the
// old version keeps running. The methods of Control control a running superdaemon.
//
// Servers get their sockets with package listener.
//
// The behaviour is that of Perl's Server::Starter 0.35, unless another source is given.
package starter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/start-server/start-server/internal/daemon"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/listening"
	"github.com/start-server/start-server/internal/output"
	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/socket"
	"github.com/start-server/start-server/internal/supervisor"
	"github.com/start-server/start-server/internal/upgrade"
)

// ErrStartFailed is returned by Run if Config.Daemonize is set and the detached superdaemon ended
// before it was ready. The superdaemon has written the reason to standard error.
var ErrStartFailed = daemon.ErrStartFailed

// ErrUpgradeCheck is returned by Run, before it does anything, in a process that was started to
// check whether its executable can replace a running superdaemon: the program's --version should
// have called AnswerUpgradeCheck instead.
var ErrUpgradeCheck = errors.New("this process was started to check for an upgrade: --version must call AnswerUpgradeCheck")

// Run supervises the workers until it is told to stop by TERM, INT, QUIT or the end of ctx, and
// returns nil when every worker has ended. With Config.Daemonize it returns nil when a detached
// superdaemon is ready. An error means that no worker has started, and that none is left.
//
// While it runs it takes from the process:
//   - the signals that would end the process, which it acts on or ignores, USR2 and CHLD. Other
//     channels registered with package os/signal receive them as well. PIPE is ignored.
//   - every child: it reaps all children, so that exec.Cmd.Wait in the same process fails.
//   - standard output and error, if Config.LogFile is set: they become the log.
//   - a part of the environment: variables that a service manager or a previous superdaemon set for
//     it.
//
// Before it returns, unless Config.GiveBack is false, it restores the handling of signals (PIPE
// gets its default action unless it was ignored before) and standard output and error. Then Run can
// be called again. It must not be called twice at the same time.
func Run(ctx context.Context, c Config) error { return run(ctx, c, nil) }

func run(ctx context.Context, c Config, restart <-chan struct{}) error {
	if upgrade.BeingChecked() {
		return ErrUpgradeCheck
	}
	if err := c.Validate(); err != nil {
		return err
	}
	previous, err := upgrade.Read(signals.Variable)
	if err != nil {
		return err
	}
	parent, detached := daemon.Detached()
	if c.Daemonize && !detached && previous == nil {
		return daemon.Detach()
	}
	if c.GiveBack {
		giveBack, err := c.keepOutput()
		if err != nil {
			return err
		}
		defer giveBack()
		defer signals.Release()
	}
	d := newSuperdaemon(c)
	d.loop.restart = restart
	process.ReserveThreads(d.blocking()) // first: if it fails, nothing is left behind
	if previous != nil {
		d.resume(previous)
	} else if err := d.open(ctx, detached); err != nil {
		d.sockets.Abandon()
		d.close()
		if errors.Is(err, listening.ErrStopped) {
			return nil
		}
		return err
	}
	parent.NotifyReady()
	caught := make(chan struct{})
	go d.catchRest(caught) // in the background: the first worker must not wait for it
	d.loop.run(ctx)
	d.close()
	<-caught
	return d.loop.Failure
}

// catchRest catches the remaining signals, and wakes the loop to reap a child that died before.
func (d *superdaemon) catchRest(done chan<- struct{}) {
	defer close(done)
	signals.CatchRest()
	d.loop.wakeUp()
}

// open opens the log, the pid file and the sockets. If it fails, nothing was started, and the error
// is reported on the standard error that the process inherited.
func (d *superdaemon) open(ctx context.Context, detached bool) (err error) {
	if d.output, err = output.Open(d.outputOptions(detached)); err != nil {
		return err
	}
	d.Log(lines.Starting(os.Getpid()))
	if d.config.PIDFile != "" {
		if d.files.pid, err = pidfile.Create(d.config.PIDFile, os.Getpid()); err != nil {
			return err
		}
	}
	stop := d.loop.signals.Stop
	ports, err := listening.ResolvePorts(ctx, d.config.Ports, socket.LookupIPv4, stop, d.Log)
	if err != nil {
		return err
	}
	pause := func(wait time.Duration) error {
		d.files.published.Write(d.report().Encode()) // the next one follows when everything is bound
		return listening.Pause(ctx, wait, stop, d.Log)
	}
	if err := d.sockets.Open(ports, detached, pause); err != nil {
		return err
	}
	if timeout := d.config.AcceptTimeout; timeout > 0 && len(d.sockets.Listening()) == 0 {
		return fmt.Errorf("--accept-timeout=%s: no TCP port or unix socket to accept connections on", lines.Seconds(timeout))
	}
	if err := d.output.Use(); err != nil {
		return err
	}
	d.adopt()
	return nil
}

// adopt adopts the workers that another superdaemon left behind when it was killed.
func (d *superdaemon) adopt() {
	var old []*supervisor.Worker
	for _, w := range d.sockets.LeftWorkers() {
		d.workers.Adopt(w.Process)
		old = append(old, &supervisor.Worker{PID: w.PID, Generation: max(w.Generation, 1), StopSent: w.StopSent})
		d.Log(lines.Adopted(w.PID, w.Generation))
	}
	if len(old) == 0 {
		d.files.status.RemoveStale()
		return
	}
	d.loop.adopt(old)
}
