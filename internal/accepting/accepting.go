// Package accepting observes from outside, by /proc of Linux, whether a server waits for
// connections: the server is not changed and knows nothing of it.
package accepting

import (
	"runtime"
	"time"
)

// Supported reports whether this system shows what this package looks at.
const Supported = runtime.GOOS == "linux"

// A Socket is a listening stream socket that a worker was given.
type Socket struct {
	Key   string // its name in reports
	Inode uint64
}

// A Report is what was seen of a worker. The zero value means that it waits for connections on each
// socket.
type Report struct {
	Missing []string `json:"missing"` // the keys of the sockets on which it does not, in their order
	Unseen  string   `json:"unseen"`  // why it cannot be seen, or ""
}

// pause returns the time between two looks, elapsed after the first one and if the last one took
// cost: a switch to the worker is late by at most 2 % of the time that it takes to start, and a busy
// machine makes looks slow, not rare.
func pause(elapsed, cost time.Duration) time.Duration {
	const atLeast, atMost, mostForCost = 10 * time.Millisecond, 250 * time.Millisecond, time.Second
	return max(min(max(elapsed/50, atLeast), atMost), min(cost, mostForCost))
}
