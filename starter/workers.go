package starter

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/start-server/start-server/internal/accepting"
	"github.com/start-server/start-server/internal/account"
	"github.com/start-server/start-server/internal/copies"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/sdnotify"
)

// notice is a message of a worker on its NOTIFY_SOCKET, or what was seen of it from outside.
type notice struct {
	PID int `json:"pid"`
	sdnotify.Message
	Accepting *accepting.Report `json:"accepting,omitempty"`
}

// workers starts workers and receives their notices.
type workers struct {
	config      Config
	environment *environment
	sockets     *sockets
	adopted     *adopted

	receivers map[int]*sdnotify.Receiver // by the pid of the worker
	watched   map[int]chan struct{}      // likewise: closed to end the watch
	copies    copies.List
	notices   chan notice
	done      chan struct{} // closed by close
	receiving sync.WaitGroup
}

func newWorkers(c Config, e *environment, s *sockets, l *loop) *workers {
	return &workers{
		config: c, environment: e, sockets: s,
		adopted:   newAdopted(l.wakeUp),
		receivers: map[int]*sdnotify.Receiver{}, copies: copies.List{}, watched: map[int]chan struct{}{},
		notices: l.notices,
		done:    make(chan struct{}),
	}
}

// start starts a worker of the given generation. again means that a worker has started before.
func (w *workers) start(generation int, again bool) (int, error) {
	user, err := w.config.user()
	if err != nil {
		return 0, err
	}
	vars, overrides, err := w.environment.forWorker(user, again)
	if err != nil {
		return 0, err
	}
	files := w.sockets.forWorker(overrides)
	overrides["SERVER_STARTER_GENERATION"] = strconv.Itoa(generation)
	var receiver *sdnotify.Receiver
	if w.config.Workers == 1 {
		overrides[copies.NumberVariable] = "1"
	}
	if w.config.ReadyTimeout > 0 || w.config.Workers > 1 {
		receiver, err = sdnotify.Listen(fmt.Sprintf("start_server/%d/%d", os.Getpid(), generation))
		if err != nil {
			return 0, err
		}
		overrides["NOTIFY_SOCKET"] = receiver.Address()
	}
	pid, err := w.startProcess(process.Spec{
		Args:         w.config.Program,
		LogPrefix:    w.config.LogPrefix,
		Env:          encode(vars, overrides),
		Dir:          w.config.Dir,
		Files:        files,
		SetListenPID: w.config.SocketActivation,
		Credential:   credential(user),
	})
	if err == nil {
		w.watch(pid)
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

// startProcess starts the process of a worker: the program or, if there are several workers, the
// parent of the copies of it.
func (w *workers) startProcess(spec process.Spec) (int, error) {
	if w.config.Workers < 2 {
		return process.Start(spec)
	}
	r := w.config.rules()
	return copies.Start(copies.Config{
		Count: w.config.Workers, Interval: r.interval,
		ReadyTimeout: w.config.ReadyTimeout, AcceptTimeout: w.config.AcceptTimeout, Sockets: w.sockets.listening(),
		Stop: []syscall.Signal{r.signalOnTERM.Signal, r.signalOnHUP.Signal, syscall.SIGTERM},
	}, spec)
}

// credential returns the IDs of a user in the form of package syscall.
func credential(user *account.User) *syscall.Credential {
	if user == nil {
		return nil
	}
	return &syscall.Credential{Uid: user.UID, Gid: user.GID, Groups: user.Groups}
}

// receive sends the messages of a worker to the loop, until forget or pause is called.
func (w *workers) receive(pid int, receiver *sdnotify.Receiver) {
	w.receivers[pid] = receiver
	trusted := sdnotify.Trusted(pid)
	w.receiving.Add(1)
	go func() {
		defer w.receiving.Done()
		for {
			message, err := receiver.Next(trusted)
			if err != nil {
				return
			}
			select {
			case w.notices <- notice{PID: pid, Message: message}:
			case <-w.done:
				return
			}
		}
	}()
}

// watch reports to the loop whether a worker waits for connections, with --accept-timeout, until it
// does or unwatch is called.
func (w *workers) watch(pid int) {
	if w.config.AcceptTimeout == 0 || w.config.Workers > 1 { // the parent watches each of several
		return
	}
	stop := make(chan struct{})
	w.watched[pid] = stop
	go accepting.Watch(stop, pid, w.sockets.listening(), func(r accepting.Report) {
		select {
		case w.notices <- notice{PID: pid, Accepting: &r}:
		case <-stop:
		}
	})
}

// unwatch does not wait for a look that is under way: the file system of the worker may hang.
func (w *workers) unwatch(pid int) {
	if stop := w.watched[pid]; stop != nil {
		close(stop)
		delete(w.watched, pid)
	}
}

// forget closes the notify socket and the pidfd of a worker that is gone.
func (w *workers) forget(pid int) {
	w.adopted.forget(pid)
	w.unwatch(pid)
	delete(w.copies, pid)
	if receiver := w.receivers[pid]; receiver != nil {
		_ = receiver.Close()
		delete(w.receivers, pid)
	}
}

// pause stops receiving and returns the notices that were received and not acted on. Later messages
// of workers stay in the queues of the sockets.
func (w *workers) pause() (notices []notice) {
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

// unpause undoes pause.
func (w *workers) unpause() {
	for pid, r := range w.receivers {
		r.Resume()
		w.receive(pid, r)
	}
}

func (w *workers) unwatchAll() {
	for pid := range w.watched {
		w.unwatch(pid)
	}
}

func (w *workers) close() {
	w.unwatchAll()
	close(w.done)
}

func (w *workers) save(u *upgradeState) {
	w.adopted.save(u)
	u.Copies = w.copies
	for pid, r := range w.receivers {
		u.Receivers = append(u.Receivers, receiverState{Worker: pid, Descriptor: r.Descriptor(), Address: r.Address()})
	}
}

func (w *workers) resume(u *upgradeState) {
	w.adopted.resume(u)
	if u.Copies != nil {
		w.copies = u.Copies
	}
	for _, r := range u.Receivers {
		w.receive(r.Worker, sdnotify.Adopt(r.Descriptor, r.Address))
	}
}
