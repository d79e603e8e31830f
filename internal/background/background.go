// Package background runs work that may block (on a file system that hangs, on a full pipe) outside
// the goroutine that must never block.
package background

import (
	"errors"
	"time"
)

// Patience is how long the owner of a Runner waits for a file system. Work that takes longer continues
// in the background.
const Patience = 250 * time.Millisecond

// ErrNotAnswering means that the work was not done in time.
var ErrNotAnswering = errors.New("its file system does not answer")

// Runner runs one piece of work at a time in a goroutine of its own. Its methods may be called by
// one goroutine only, its owner.
type Runner struct {
	work chan func()
	done chan struct{}
	wake func()
	busy bool
}

// New returns a Runner that calls wake, from its own goroutine, each time a piece of work has
// ended.
func New(wake func()) *Runner {
	r := &Runner{work: make(chan func()), done: make(chan struct{}, 1), wake: wake}
	go r.run()
	return r
}

func (r *Runner) run() {
	for work := range r.work {
		work()
		r.done <- struct{}{}
		r.wake()
	}
}

// Run starts work and waits at most limit for it to end. It reports whether the work has ended;
// only then may its results be read. Otherwise the work keeps running until Idle reports true.
// While earlier work is under way, Run starts nothing and returns false.
func (r *Runner) Run(work func(), limit time.Duration) (ended bool) {
	if !r.Idle() {
		return false
	}
	r.work <- work // never blocks for long: the goroutine is receiving, or about to
	r.busy = true
	return r.Wait(limit)
}

// Idle reports whether no work is under way.
func (r *Runner) Idle() bool {
	if r.busy {
		select {
		case <-r.done:
			r.busy = false
		default:
		}
	}
	return !r.busy
}

// Wait waits at most limit for the work under way to end, and reports whether it has.
func (r *Runner) Wait(limit time.Duration) (ended bool) {
	if r.Idle() || limit <= 0 {
		return !r.busy
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.done:
		r.busy = false
	case <-timer.C:
	}
	return !r.busy
}

// Close ends the goroutine once the work under way has ended.
func (r *Runner) Close() { close(r.work) }
