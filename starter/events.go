package starter

import (
	"sync"
	"syscall"
	"time"
)

// An Event is something that happened in a superdaemon: one of the types below, to be distinguished
// by a type switch. More types may be added.
type Event interface{ event() }

type (
	// WorkerStarted means that a worker process was started. It does not serve yet.
	WorkerStarted struct{ PID, Generation int }

	// WorkerReady means that a worker has started: it is alive after Config.Interval, has sent
	// READY=1, or waits for connections.
	WorkerReady struct{ PID, Generation int }

	// WorkerAdopted means that a worker of a superdaemon that was killed was adopted. It serves
	// until a new one has started.
	WorkerAdopted struct{ PID, Generation int }

	// WorkerFailed means that an attempt to start a worker has failed: it died too early, was not
	// ready in time, or could not be started at all, in which case PID is 0.
	WorkerFailed struct {
		PID, Generation int
		Reason          string // "exit status 1", "killed by SEGV", "not ready in 5 secs"
	}

	// WorkerDied means that a worker has ended. If Stopped is false, it has crashed.
	WorkerDied struct {
		PID, Generation int
		Status          int  // exit code × 256 + signal, as in the log; -1 if unknown, for an adopted worker
		Stopped         bool // a signal to stop was sent before
	}

	// WorkerStopped means that a signal to stop was sent to a worker, KILL included
	// (Config.KillTimeout).
	WorkerStopped struct {
		PID, Generation int
		Signal          syscall.Signal
	}

	// RestartBegun means that a restart has begun: by a HUP, by Runner.Restart, by time or
	// because a socket was replaced.
	RestartBegun struct{ Number int } // 1 for the first one

	// RestartSucceeded means that the new worker of a restart serves and the old ones were
	// signalled to stop.
	RestartSucceeded struct {
		Number, Generation, Attempts int
		Duration                     time.Duration
	}

	// RestartGivenUp means that a restart, or the first start if Number is 0, was given up after
	// Config.MaxAttempts.
	RestartGivenUp struct {
		Number, Generation, Attempts int
		Duration                     time.Duration
		Reason                       string // why the last attempt failed
	}

	// ProcessStarted means that one of the processes of a worker was started (Config.Workers). PID
	// is that of the process, Worker that of the worker, Number the value of SERVER_STARTER_WORKER.
	ProcessStarted struct{ PID, Worker, Generation, Number int }

	// ProcessReady means that one of the processes of a worker has started.
	ProcessReady struct{ PID, Worker, Generation, Number int }

	// ProcessDied means that one of the processes of a worker has ended. If the worker was killed,
	// WorkerDied is the only event. If Stopped is false, it has crashed.
	ProcessDied struct {
		PID, Worker, Generation, Number int
		Status                          int  // exit code × 256 + signal
		Stopped                         bool // a signal to stop was sent before
	}

	// UpgradeRequested means that USR2 was received. If the upgrade succeeds, the next event is in
	// the new program.
	UpgradeRequested struct{}

	// Upgraded is the first event after an upgrade, in the new program.
	Upgraded struct{}

	// Stopping means that a stop has begun: by a signal, by the end of the context or because the
	// first start was given up.
	Stopping struct{}
)

func (WorkerStarted) event()    {}
func (WorkerReady) event()      {}
func (WorkerAdopted) event()    {}
func (WorkerFailed) event()     {}
func (WorkerDied) event()       {}
func (WorkerStopped) event()    {}
func (RestartBegun) event()     {}
func (RestartSucceeded) event() {}
func (RestartGivenUp) event()   {}
func (ProcessStarted) event()   {}
func (ProcessReady) event()     {}
func (ProcessDied) event()      {}
func (UpgradeRequested) event() {}
func (Upgraded) event()         {}
func (Stopping) event()         {}

// eventQueue calls a function with each event, in order, in a goroutine of its own. The queue has
// no limit, so that the loop never blocks on the function: events are rare, a few for each worker.
type eventQueue struct {
	handle func(Event)
	mu     sync.Mutex
	queue  []Event
	closed bool
	more   *sync.Cond // queue or closed has changed
	done   chan struct{}
}

// newEventQueue returns nil, which ignores all events, if there is no function.
func newEventQueue(handle func(Event)) *eventQueue {
	if handle == nil {
		return nil
	}
	q := &eventQueue{handle: handle, done: make(chan struct{})}
	q.more = sync.NewCond(&q.mu)
	go q.run()
	return q
}

func (q *eventQueue) add(e Event) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, e)
	q.more.Signal()
}

func (q *eventQueue) run() {
	defer close(q.done)
	for events := q.next(); len(events) > 0; events = q.next() {
		for _, e := range events {
			q.handle(e)
		}
	}
}

// next waits for events. It returns none when the queue is closed and empty.
func (q *eventQueue) next() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.closed {
		q.more.Wait()
	}
	events := q.queue
	q.queue = nil
	return events
}

// close returns when the function has returned from the last event.
func (q *eventQueue) close() {
	if q == nil {
		return
	}
	q.mu.Lock()
	q.closed = true
	q.more.Signal()
	q.mu.Unlock()
	<-q.done
}
