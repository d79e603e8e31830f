//go:build !windows

// Command start_server is a superdaemon for hot-deploying server programs.
package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

func main() {
	time.AfterFunc(time.Second, reduceFootprint)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// reduceFootprint is for a process that works a moment at a time, in one goroutine, next to
// servers that need the memory. Before the server is up it would only delay that.
func reduceFootprint() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(10)
}
