// Package oneprocessor limits the Go runtime to one processor: the superdaemon works in one
// goroutine, and each further processor would cost a thread and memory. It imports only package
// runtime, so that it is initialized before nearly all others: a processor that has allocated
// something leaves 0.2 MB behind when it is given up.
package oneprocessor

import "runtime"

func init() { runtime.GOMAXPROCS(1) }
