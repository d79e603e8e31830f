// Package background runs work that may wait for the world (a file system that hangs, a pipe that is
// full) outside the goroutine that must never wait.
package background

import "time"

// Runner runs one piece of work at a time in a goroutine of its own. Its methods belong to one
// goroutine, its owner.
type Runner struct {
	work chan func()
	done chan struct{}
	wake func()
	busy bool
}

// New returns a Runner that calls wake, from its own goroutine, each time a piece of work has ended.
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

// Run starts work and waits until it ends, for limit at the most. It reports whether the work has
// ended: what it wrote may be read then. Otherwise it keeps running until Idle reports its end.
// Run starts nothing while earlier work is under way, and reports false.
func (r *Runner) Run(work func(), limit time.Duration) (ended bool) {
	if !r.Idle() {
		return false
	}
	r.work <- work // never waits: the goroutine is in its range, or about to be
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

// Wait waits until the work under way has ended, for limit at the most, and reports whether it has.
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

// Close ends the goroutine, after the work that is under way.
func (r *Runner) Close() { close(r.work) }
