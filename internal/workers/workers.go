// Package workers starts workers, receives what they say of themselves, and signals them.
package workers

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/start-server/start-server/internal/accepting"
	"github.com/start-server/start-server/internal/account"
	"github.com/start-server/start-server/internal/copies"
	"github.com/start-server/start-server/internal/orphan"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/status"
)

// Notice is a message of a worker on its NOTIFY_SOCKET, or what was seen of it from outside.
type Notice struct {
	PID int `json:"pid"`
	sdnotify.Message
	Accepting *accepting.Report `json:"accepting,omitempty"`
}

// Program is what the workers are.
type Program struct {
	Args         []string
	Dir          string        // the working directory; "" for that of this process
	LogPrefix    string        // of the line that reports that it cannot be executed
	SetListenPID bool          // LISTEN_PID is the pid of the worker
	Notifies     bool          // every worker gets a NOTIFY_SOCKET of its own
	Copies       copies.Config // how several processes run as one worker; Count 0: one, without its number

	User  func() (*account.User, error)          // that it runs as; nil for that of this process
	Files func(vars map[string]string) []uintptr // its descriptors; adds the variables that name them

	// Listening returns the sockets on which it has to wait for connections; nil if that is not looked at.
	Listening func() []accepting.Socket
}

// Workers starts workers and receives their notices.
type Workers struct {
	program     Program
	environment *Environment
	adopted     *adopted

	receivers map[int]*sdnotify.Receiver // by the pid of the worker
	watched   map[int]chan struct{}      // likewise: closed to end the watch
	copies    copies.List
	notices   chan Notice
	done      chan struct{} // closed by Close
	receiving sync.WaitGroup
}

// New returns Workers that send notices to a channel. wake is called when an adopted worker has
// ended.
func New(p Program, e *Environment, notices chan Notice, wake func()) *Workers {
	return &Workers{
		program: p, environment: e,
		adopted:   newAdopted(wake),
		receivers: map[int]*sdnotify.Receiver{}, copies: copies.List{}, watched: map[int]chan struct{}{},
		notices: notices,
		done:    make(chan struct{}),
	}
}

// Start starts a worker of the given generation and returns its pid. again means that a worker has
// started before.
func (w *Workers) Start(generation int, again bool) (pid int, err error) {
	user, err := w.program.User()
	if err != nil {
		return 0, err
	}
	vars, overrides, err := w.environment.forWorker(user, again)
	if err != nil {
		return 0, err
	}
	files := w.program.Files(overrides)
	overrides["SERVER_STARTER_GENERATION"] = strconv.Itoa(generation)
	var receiver *sdnotify.Receiver
	if w.program.Copies.Count == 1 {
		overrides[copies.NumberVariable] = "1"
	}
	if w.program.Notifies || w.program.Copies.Count > 1 {
		receiver, err = sdnotify.Listen(fmt.Sprintf("start_server/%d/%d", os.Getpid(), generation))
		if err != nil {
			return 0, err
		}
		overrides["NOTIFY_SOCKET"] = receiver.Address()
	}
	pid, err = w.startProcess(process.Spec{
		Args:         w.program.Args,
		LogPrefix:    w.program.LogPrefix,
		Env:          encode(vars, overrides),
		Dir:          w.program.Dir,
		Files:        files,
		SetListenPID: w.program.SetListenPID,
		Credential:   credential(user),
	})
	if err == nil {
		w.Watch(pid)
	}
	switch {
	case receiver == nil:
	case err != nil:
		_ = receiver.Close()
	default:
		w.receive(pid, receiver)
	}
	return pid, err
}

// startProcess starts the process of a worker: the program or, if there are several, the parent of
// the copies of it.
func (w *Workers) startProcess(spec process.Spec) (pid int, err error) {
	if w.program.Copies.Count < 2 {
		return process.Start(spec)
	}
	c := w.program.Copies
	if w.program.Listening != nil {
		c.Sockets = w.program.Listening()
	}
	return copies.Start(c, spec)
}

// credential returns the IDs of a user in the form of package syscall.
func credential(user *account.User) *syscall.Credential {
	if user == nil {
		return nil
	}
	return &syscall.Credential{Uid: user.UID, Gid: user.GID, Groups: user.Groups}
}

// receive sends the messages of a worker to the loop, until Forget or Pause is called.
func (w *Workers) receive(pid int, receiver *sdnotify.Receiver) {
	w.receivers[pid] = receiver
	trusted := sdnotify.Trusted(pid)
	w.receiving.Go(func() {
		for {
			message, err := receiver.Next(trusted)
			if err != nil {
				return
			}
			select {
			case w.notices <- Notice{PID: pid, Message: message}:
			case <-w.done:
				return
			}
		}
	})
}

// Watch reports whether a worker waits for connections, if Program.Listening is set, until it does or
// Unwatch is called.
func (w *Workers) Watch(pid int) {
	if w.program.Listening == nil || w.program.Copies.Count > 1 { // the parent watches each of several
		return
	}
	stop := make(chan struct{})
	w.watched[pid] = stop
	go accepting.Watch(stop, pid, w.program.Listening(), func(r accepting.Report) {
		select {
		case w.notices <- Notice{PID: pid, Accepting: &r}:
		case <-stop:
		}
	})
}

// Unwatch does not wait for a look that is under way: the file system of the worker may hang.
func (w *Workers) Unwatch(pid int) {
	if stop := w.watched[pid]; stop != nil {
		close(stop)
		delete(w.watched, pid)
	}
}

func (w *Workers) unwatchAll() {
	for pid := range w.watched {
		w.Unwatch(pid)
	}
}

// OnCopy records the report of a worker on one of its processes, and returns that process before
// and now.
func (w *Workers) OnCopy(worker int, report string) (before, now copies.Process, err error) {
	return w.copies.Update(worker, report)
}

// MissingOfCopies returns the keys of the sockets on which not every process of a worker waits for
// connections.
func (w *Workers) MissingOfCopies(worker int) []string { return w.copies.Missing(worker) }

// KillLeft ends the processes of a worker that has ended, if it was killed.
func (w *Workers) KillLeft(pid int) { w.copies.KillLeft(pid) }

// ExpandCopies replaces each worker that has several processes by them.
func (w *Workers) ExpandCopies(reports []status.WorkerReport) []status.WorkerReport {
	return w.copies.Expand(reports)
}

// Adopt adds a worker that another superdaemon left, and watches for its end.
func (w *Workers) Adopt(p orphan.Process) { w.adopted.add(p) }

// IsAdopted reports whether a worker was left by another superdaemon.
func (w *Workers) IsAdopted(pid int) bool { return w.adopted.processes[pid] != nil }

// ReapAdopted returns an adopted worker that has ended. ok is false if there is none.
func (w *Workers) ReapAdopted() (pid int, ok bool) { return w.adopted.reap() }

// Signal sends a signal to stop to a worker. KILL ends the processes below it as well. If it has
// ended, that is not an error.
func (w *Workers) Signal(pid int, sig syscall.Signal) error {
	w.Unwatch(pid)
	return w.adopted.signal(pid, sig)
}

// Forget closes the notify socket and the pidfd of a worker that is gone.
func (w *Workers) Forget(pid int) {
	w.adopted.forget(pid)
	w.Unwatch(pid)
	delete(w.copies, pid)
	if receiver := w.receivers[pid]; receiver != nil {
		_ = receiver.Close()
		delete(w.receivers, pid)
	}
}

// Pause stops receiving and returns the notices that were received and not acted on. Later messages
// of workers stay in the queues of the sockets.
func (w *Workers) Pause() (notices []Notice) {
	w.unwatchAll()
	for _, r := range w.receivers {
		r.Pause()
	}
	ended := make(chan struct{})
	go func() { w.receiving.Wait(); close(ended) }()
	for {
		select {
		case n := <-w.notices:
			notices = append(notices, n)
		case <-ended:
			return notices
		}
	}
}

// Unpause undoes Pause.
func (w *Workers) Unpause() {
	for pid, r := range w.receivers {
		r.Resume()
		w.receive(pid, r)
	}
}

// Close ends the goroutines.
func (w *Workers) Close() {
	w.unwatchAll()
	close(w.done)
	w.environment.Close()
}
