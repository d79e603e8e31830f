// Package starter is the superdaemon: it binds sockets, starts a server
// program with them, and replaces it by a new one without ever closing them.
//
// The command start_server is this package and a command line; start_server(1)
// tells what it does. Other programs may run a superdaemon as well:
//
//	c := starter.NewConfig("./server", "--verbose")
//	c.Ports = []string{"8080"}
//	err := starter.Run(ctx, c)
//
// Run is the whole life of a superdaemon, and takes the whole process. It may
// execute its own executable again, with the same arguments where it detaches
// (Config.Daemonize) or replaces itself (USR2); for the latter the program's
// --version must call Answer, or the superdaemon stays what it is. The methods of
// Control talk to a superdaemon that runs.
//
// Servers take their sockets from package listener.
//
// The behaviour is that of Perl's Server::Starter 0.35, which is where rules
// without another source come from.
package starter

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/daemon"
	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/signals"
	"github.com/start-server/start-server/internal/socket"
)

// ErrStartFailed is returned by Run where Config.Daemonize is set and the detached
// superdaemon ended before it was up. It has told why on standard error.
var ErrStartFailed = daemon.ErrStartFailed

// Run is a superdaemon. It returns nil when it was told to stop, by TERM, INT,
// QUIT or the end of ctx, and every worker is gone; with Config.Daemonize, when a detached
// superdaemon is up. It takes the whole process: signals, children, standard output
// and error are its own. An error means that nothing was started.
func Run(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	predecessor, err := readUpgradeState(signals.Variable)
	if err != nil {
		return err
	}
	parent, detached := daemon.Detached()
	if c.Daemonize && !detached && predecessor == nil {
		return daemon.Detach()
	}
	d := newSuperdaemon(c, detached)
	if predecessor != nil {
		d.takeOver(predecessor)
	} else if err := d.open(); err != nil {
		d.close()
		return err
	}
	parent.NotifyReady()
	d.loop.run(ctx)
	d.close()
	return nil
}

// open binds everything and writes the files: what fails here is told on the
// standard error that we were given, and nothing was started.
func (d *superdaemon) open() error {
	signalsReceived := signals.Catch()
	l, err := openLog(d.config.LogFile, encode(d.environment.base, nil), d.detached)
	if err != nil {
		return err
	}
	d.out = l
	l.print(msgStarting(os.Getpid()))
	if d.config.PIDFile != "" {
		if d.pidFile, err = pidfile.Create(d.config.PIDFile, os.Getpid()); err != nil {
			return err
		}
	}
	if err := d.bind(); err != nil {
		return err
	}
	if err := l.use(); err != nil {
		return err
	}
	d.removeStaleStatus()
	d.loop = newLoop(newSupervisor(d.config.rules(), d), d, signalsReceived, d.notices)
	return nil
}

// bind opens every port and path, or takes over the socket of the service
// manager that it names. Sockets that nothing names are handed on.
func (d *superdaemon) bind() error {
	process.Reserve(len(d.config.Ports) + len(d.config.Paths))
	offered := d.activated()
	take := func(named func(*socket.Socket) bool) *socket.Socket {
		for i, s := range offered {
			if named(s) {
				offered = append(offered[:i:i], offered[i+1:]...)
				return s
			}
		}
		return nil
	}
	for _, spec := range d.config.Ports {
		p, err := portspec.Parse(spec)
		if err != nil {
			return err
		}
		s := take(func(s *socket.Socket) bool { return s.IsPort(p) })
		if err := d.addPort(p, s); err != nil {
			return err
		}
	}
	for _, path := range d.config.Paths {
		s := take(func(s *socket.Socket) bool { return s.IsPath(path) })
		if err := d.addPath(path, s); err != nil {
			return err
		}
	}
	d.sockets = append(d.sockets, offered...)
	return nil
}

func (d *superdaemon) addPort(p portspec.Port, s *socket.Socket) error {
	if limit := process.DescriptorLimit(); p.FD >= limit {
		return fmt.Errorf("place --port %s at descriptor %d: a process may have %d", p.Key, p.FD, limit)
	}
	if s == nil {
		var err error
		if s, err = socket.OpenPort(p, d.config.Backlog); err != nil {
			return err
		}
	}
	s.Key, s.RequestedFD = p.Key, p.FD
	if p.FD >= 0 {
		d.out.print(msgDuplicated(p.FD))
	}
	d.sockets = append(d.sockets, s)
	return nil
}

func (d *superdaemon) addPath(path string, s *socket.Socket) error {
	if s == nil {
		for _, other := range d.sockets {
			if other.Same(path) {
				return fmt.Errorf("listen on %q: the same address twice", path)
			}
		}
		var err error
		s, err = socket.OpenPath(path, d.config.Backlog, func(path string) { d.out.print(msgRemovingSocket(path)) })
		if err != nil {
			return err
		}
	}
	d.sockets = append(d.sockets, s)
	return nil
}

// close leaves nothing behind. The pid file goes last: who waits for its lock
// waits until all else is done.
func (d *superdaemon) close() {
	for _, s := range d.sockets {
		s.Close()
	}
	if d.statusWritten {
		_ = unix.Unlink(d.config.StatusFile)
	}
	close(d.done)
	d.endProbe()
	if d.out != nil {
		d.out.close()
	}
	if d.pidFile != nil {
		_ = d.pidFile.Remove()
	}
}

func (c Config) rules() rules {
	onHUP, err1 := process.ParseSignal(c.SignalOnHUP)
	onTERM, err2 := process.ParseSignal(c.SignalOnTERM)
	if err := errors.Join(err1, err2); err != nil {
		panic(err) // Validate has read them
	}
	return rules{
		interval:     c.Interval,
		readyTimeout: c.ReadyTimeout,
		killTimeout:  c.KillTimeout,
		signalOnHUP:  onHUP,
		signalOnTERM: onTERM,
		sockets:      len(c.Ports)+len(c.Paths) > 0,
	}
}
