//go:build linux

// Command floor is the smallest Go program that does what is measured, to show what the Go runtime
// takes by itself. It binds a port, starts the worker, starts another one at each HUP, and stops
// the one before. It checks nothing, writes nothing, and ends at TERM. What start_server takes
// above it is start_server's own.
package main

import (
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	check(err)
	check(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(syscall.Listen(fd, syscall.SOMAXCONN))
	worker := os.Args[slices.Index(os.Args, "--")+1:]
	current := 0
	for generation := 1; ; generation++ {
		old := current
		current, err = syscall.ForkExec(worker[0], worker, &syscall.ProcAttr{
			Env:   append(os.Environ(), "SERVER_STARTER_GENERATION="+strconv.Itoa(generation)),
			Files: []uintptr{0, 1, 2, uintptr(fd)},
		})
		check(err)
		if old > 0 {
			check(syscall.Kill(old, syscall.SIGTERM))
			_, err = syscall.Wait4(old, nil, 0, nil)
			check(err)
		}
		if <-signals == syscall.SIGTERM {
			check(syscall.Kill(current, syscall.SIGTERM))
			return
		}
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
