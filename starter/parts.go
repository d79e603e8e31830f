package starter

import (
	"errors"
	"strings"
	"syscall"

	"github.com/start-server/start-server/internal/copies"
	"github.com/start-server/start-server/internal/listening"
	"github.com/start-server/start-server/internal/signame"
	"github.com/start-server/start-server/internal/supervisor"
	"github.com/start-server/start-server/internal/workers"
)

// What the parts of a superdaemon need of its Config.

func (c Config) rules() supervisor.Rules {
	onHUP, err1 := signame.Parse(c.SignalOnHUP)
	onTERM, err2 := signame.Parse(c.SignalOnTERM)
	if err := errors.Join(err1, err2); err != nil {
		panic(err) // cannot happen: Validate has parsed them
	}
	r := supervisor.Rules{
		Interval:      c.Interval,
		KillTimeout:   c.KillTimeout,
		MaxAttempts:   c.MaxAttempts,
		MaxOldWorkers: c.MaxOldWorkers,
		StopFirst:     c.StopFirst,
		StopDelay:     c.StopDelay,
		SignalOnHUP:   supervisor.StopSignal{Signal: onHUP, Name: signame.Word(c.SignalOnHUP)},
		SignalOnTERM:  supervisor.StopSignal{Signal: onTERM, Name: signame.Word(c.SignalOnTERM)},
	}
	switch {
	case c.AcceptTimeout > 0:
		r.Readiness, r.StartTimeout = supervisor.ByAccepting, c.AcceptTimeout
	case c.ReadyTimeout > 0:
		r.Readiness, r.StartTimeout = supervisor.ByNotice, c.ReadyTimeout
	}
	return r
}

func (c Config) hints() supervisor.Hints {
	return supervisor.Hints{
		Sockets: len(c.Ports)+len(c.Paths) > 0,
		Dir:     c.Dir != "",
		OneWord: len(c.Program) == 1 && strings.ContainsRune(c.Program[0], ' '),
	}
}

func (c Config) sockets() listening.Options {
	return listening.Options{
		Ports: c.Ports, Paths: c.Paths, Backlog: c.Backlog, StatusFile: c.StatusFile,
		SocketActivation: c.SocketActivation, SteerUDP: c.SteerUDP, Access: c.access,
	}
}

func (c Config) environment() workers.Options {
	return workers.Options{
		EnvDir: c.EnvDir, AutoRestart: c.AutoRestart, AutoRestartInterval: c.AutoRestartInterval, KillOldDelay: c.KillOldDelay,
		SteerUDP: c.SteerUDP,
	}
}

func (c Config) program(sockets *listening.Sockets) workers.Program {
	r := c.rules()
	p := workers.Program{
		Args:         c.Program,
		Dir:          c.Dir,
		LogPrefix:    c.LogPrefix,
		SetListenPID: c.SocketActivation,
		Notifies:     c.ReadyTimeout > 0,
		Copies: copies.Config{
			Count: c.Workers, Interval: c.Interval, ReadyTimeout: c.ReadyTimeout, AcceptTimeout: c.AcceptTimeout,
			Stop: []syscall.Signal{r.SignalOnTERM.Signal, r.SignalOnHUP.Signal, syscall.SIGTERM},
		},
		User:  c.user,
		Files: sockets.ForWorker,
	}
	if c.AcceptTimeout > 0 {
		p.Listening = sockets.Listening
	}
	return p
}
