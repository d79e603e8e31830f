// Package oneprocessor makes a program that imports it run its Go code on one processor at a time. A
// superdaemon works in one goroutine: each processor more would be a thread and memory more. As the
// package imports nothing but runtime, it is initialized before the others, which then allocate their
// memory on that processor.
package oneprocessor

import "runtime"

func init() { runtime.GOMAXPROCS(1) }
