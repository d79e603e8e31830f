//go:build linux

// Package eventlog carries what happens in a worker, and when, to the program that measures it: one
// line for each event through a named pipe.
package eventlog

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Variable names the environment variable with the path of the pipe.
const Variable = "BENCH_EVENTLOG"

// Entry is one event in the life of a worker.
type Entry struct {
	Name       string
	Generation int
	PID        int
	At         time.Duration // on CLOCK_MONOTONIC, which all processes share
}

// Now is the time on CLOCK_MONOTONIC.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // there is no Linux without this clock
	}
	return time.Duration(t.Nano())
}

// Write reports an event that happened to this process at the given time. A line is shorter than
// PIPE_BUF, so lines of several workers do not mix.
func Write(name string, at time.Duration) error {
	fd, err := unix.Open(os.Getenv(Variable), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	generation, _ := strconv.Atoi(os.Getenv("SERVER_STARTER_GENERATION")) // 0 for a worker without a superdaemon
	line := name + " " + strconv.Itoa(generation) + " " + strconv.Itoa(os.Getpid()) + " " + strconv.FormatInt(int64(at), 10) + "\n"
	_, err = unix.Write(fd, []byte(line))
	return err
}

// Open makes the pipe and delivers its entries until the returned function is called.
func Open(path string) (<-chan Entry, func(), error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, nil, fmt.Errorf("make named pipe %q: %w", path, err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR, 0) // a writer here: no end of file between workers
	if err != nil {
		return nil, nil, err
	}
	entries := make(chan Entry, 10000)
	go func() {
		defer close(entries)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			var e Entry
			if _, err := fmt.Sscan(lines.Text(), &e.Name, &e.Generation, &e.PID, (*int64)(&e.At)); err == nil {
				entries <- e
			}
		}
	}()
	return entries, func() { pipe.Close() }, nil
}
