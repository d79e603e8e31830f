// Package copies runs a worker that consists of several copies of the program (--workers). For the
// superdaemon such a worker is one process, the parent: it starts the copies, reports READY=1 when
// all have started, passes on signals, replaces a copy that dies, and ends with them.
//
// The parent is this same executable, started under another name. If it is killed, the kernel kills
// the copies (PR_SET_PDEATHSIG of prctl(2)). If the superdaemon is killed, the copies keep serving
// like any worker, but none is replaced any more. The parent is in a process group of its own, and
// the copies are in that of the superdaemon: a signal to the group, such as that of Ctrl-C, reaches
// each of them once, and not a second time through the parent.
package copies

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/accepting"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/status"
)

// Config says how to run the copies.
type Config struct {
	Count         int
	Interval      time.Duration      // a copy that is alive after this time has started; a dead one is replaced once in it
	ReadyTimeout  time.Duration      // a copy has started when it sends READY=1, and has failed after this time; 0: Interval decides
	AcceptTimeout time.Duration      // likewise, when it waits for connections on each of Sockets
	Sockets       []accepting.Socket // with AcceptTimeout
	Stop          []syscall.Signal   // the signals that stop the worker; the first one stops copies that did not start
}

// shared is what a parent gets from Start.
type shared struct {
	Config
	Superdaemon  int // pid
	Group        int // process group of the superdaemon
	Dir          string
	LogPrefix    string
	SetListenPID bool
}

const (
	title    = "start_server: workers" // Args[0] of a parent
	variable = "START_SERVER_WORKERS"  // shared as JSON, in the environment of a parent

	// NumberVariable holds the number of a copy, 1 to Config.Count, in its environment.
	NumberVariable = "SERVER_STARTER_WORKER"
)

// Start starts a worker whose copies run the program of spec, and returns the pid of the parent. An
// error is like that of process.Start.
func Start(c Config, spec process.Spec) (int, error) {
	self, err := process.Self()
	if err != nil {
		return 0, err
	}
	group, err := unix.Getpgid(0)
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(shared{c, os.Getpid(), group, spec.Dir, spec.LogPrefix, spec.SetListenPID})
	if err != nil {
		return 0, err
	}
	spec.Args = append([]string{title}, spec.Args...)
	spec.Env = append(spec.Env, variable+"="+string(text))
	spec.Dir, spec.Group = "", process.OwnGroup
	return process.StartAs(self, spec)
}

// CanPassOn reports whether a parent can pass on a signal.
func CanPassOn(sig syscall.Signal) bool {
	return sig == syscall.SIGKILL || slices.Contains(passedOn(), os.Signal(sig))
}

// passedOn returns the signals that a parent passes on: not those that it needs itself, and not
// those that a Go program cannot catch.
func passedOn() (list []os.Signal) {
	own := []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG, syscall.SIGPROF}
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if !slices.Contains(own, sig) && (sig < 32 || sig > 34) {
			list = append(list, sig)
		}
	}
	return list
}

// The states of a copy.
const (
	Starting = "starting"
	Serving  = "serving"
	Stopping = "stopping"
	Ended    = "ended"
)

// A Process is a copy, as its parent reports it to the superdaemon when its state changes.
type Process struct {
	Number int       `json:"number"`
	PID    int       `json:"pid"`
	State  string    `json:"state"`
	Since  time.Time `json:"since"`
	Text   string    `json:"text"`   // its last STATUS=
	Late   bool      `json:"late"`   // it stops because it did not start in time
	Status int       `json:"status"` // raw wait status, if Ended
	Error  string    `json:"error"`  // if Ended, why it could not be started
	Clock  uint64    `json:"clock"`  // see process.Parent; 0 unless the superdaemon has seen it as a child of its parent

	accepting.Report // if Starting
}

// A List holds the living copies of each worker, by the pid of the parent and their numbers.
type List map[int]map[int]Process

// Update records the report of a parent, the value of sdnotify.ProcessVariable, and returns the copy
// before and now.
func (l List) Update(parent int, report string) (before, now Process, err error) {
	if err := json.Unmarshal([]byte(report), &now); err != nil {
		return before, now, fmt.Errorf("report of worker %d: %w", parent, err)
	}
	now.Clock = 0
	before = l[parent][now.Number]
	if now.PID == before.PID {
		now.Clock = before.Clock
	} else if p, started := process.Parent(now.PID); p == parent {
		now.Clock = started
	}
	switch {
	case now.State == Ended:
		delete(l[parent], now.Number)
	case l[parent] == nil:
		l[parent] = map[int]Process{now.Number: now}
	default:
		l[parent][now.Number] = now
	}
	return before, now, nil
}

// KillLeft kills the copies of a worker whose parent has ended. The kernel has killed those that
// have not changed their user: it forgets then what to do at the end of the parent.
func (l List) KillLeft(parent int) {
	for _, p := range l[parent] {
		if _, started := process.Parent(p.PID); p.Clock > 0 && started == p.Clock {
			_ = unix.Kill(p.PID, unix.SIGKILL)
		}
	}
}

func (l List) numbers(parent int) []int { return slices.Sorted(maps.Keys(l[parent])) }

// Missing returns the sockets on which not all copies of a worker wait for connections.
func (l List) Missing(parent int) (keys []string) {
	for _, number := range l.numbers(parent) {
		for _, key := range l[parent][number].Missing {
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// Expand replaces each worker that has copies by them.
func (l List) Expand(workers []status.WorkerReport) []status.WorkerReport {
	expanded := []status.WorkerReport{}
	for _, w := range workers {
		if len(l[w.PID]) == 0 {
			expanded = append(expanded, w)
		}
		for _, number := range l.numbers(w.PID) {
			p := l[w.PID][number]
			if w.State == Stopping {
				p.State = Stopping // the parent may not have reported it yet
			}
			expanded = append(expanded, status.WorkerReport{
				PID: p.PID, Generation: w.Generation, State: p.State, Since: p.Since, Status: p.Text, Number: p.Number, Parent: w.PID,
				Missing: p.Missing,
			})
		}
	}
	return expanded
}
