// Package oneprocessor has the Go runtime use one processor: the superdaemon works in one goroutine,
// and each processor more would be a thread more, and memory. It imports next to nothing so that it
// is initialized before nearly everything else: a processor that has allocated something leaves
// 0.2 MB behind when it is taken away.
package oneprocessor

import "runtime"

func init() { runtime.GOMAXPROCS(1) }
