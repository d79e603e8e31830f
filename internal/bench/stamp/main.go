//go:build linux

// Command stamp is the smallest worker: it reports when its main begins and when it gets its first
// TERM, and sends READY=1 in between if it is given a NOTIFY_SOCKET. With STAMP_LINGER set it does
// not end at TERM.
package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/bench/eventlog"
)

func main() {
	begin := eventlog.Now()
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	if err := eventlog.Write("main", begin); err != nil {
		os.Exit(1)
	}
	if err := ready(os.Getenv("NOTIFY_SOCKET")); err != nil {
		os.Exit(1)
	}
	<-terminated
	eventlog.Write("TERM", eventlog.Now())
	for os.Getenv("STAMP_LINGER") != "" {
		<-terminated
	}
}

// ready sends READY=1 by hand: package net would take longer to start than all the rest of this
// program.
func ready(path string) error {
	if path == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte("READY=1"), 0, &unix.SockaddrUnix{Name: path})
}
