// Package queue passes values to a function that may be slow.
package queue

import "sync"

// Queue calls a function with each value, in order, in a goroutine of its own. The queue has
// no limit, so that Add never blocks on the function: use it for what is rare.
type Queue[T any] struct {
	handle func(T)
	mu     sync.Mutex
	queue  []T
	closed bool
	more   *sync.Cond // queue or closed has changed
	done   chan struct{}
}

// New returns nil, which ignores all values, if there is no function.
func New[T any](handle func(T)) *Queue[T] {
	if handle == nil {
		return nil
	}
	q := &Queue[T]{handle: handle, done: make(chan struct{})}
	q.more = sync.NewCond(&q.mu)
	go q.run()
	return q
}

// Add adds a value. It never blocks.
func (q *Queue[T]) Add(value T) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, value)
	q.more.Signal()
}

func (q *Queue[T]) run() {
	defer close(q.done)
	for values := q.next(); len(values) > 0; values = q.next() {
		for _, v := range values {
			q.handle(v)
		}
	}
}

// next waits for values. It returns none when the queue is closed and empty.
func (q *Queue[T]) next() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.closed {
		q.more.Wait()
	}
	values := q.queue
	q.queue = nil
	return values
}

// Close returns when the function has returned from the last value.
func (q *Queue[T]) Close() {
	if q == nil {
		return
	}
	q.mu.Lock()
	q.closed = true
	q.more.Signal()
	q.mu.Unlock()
	<-q.done
}
