//go:build linux

// Command web is a graceful web server for wrk and for the picture of a swap. It answers with its
// generation and reports main, ready, TERM and exit; its address goes to the file "address".
// WEB_STARTUP is how long it takes before it is ready, WEB_WORK how long for an answer.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/bench/eventlog"
	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

func main() {
	if err := serve(eventlog.Now()); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

func serve(begin time.Duration) error {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		eventlog.Write("TERM", eventlog.Now())
	}()
	if err := eventlog.Write("main", begin); err != nil {
		return err
	}
	listeners, err := listener.ListenAll()
	if errors.Is(err, listener.ErrNoListeningTarget) {
		var l net.Listener
		l, err = net.Listen("tcp", "127.0.0.1:0")
		listeners = []net.Listener{l}
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile("address", []byte(listeners[0].Addr().String()), 0o600); err != nil {
		return err
	}
	startup, _ := time.ParseDuration(os.Getenv("WEB_STARTUP")) // 0 when there is none
	work, _ := time.ParseDuration(os.Getenv("WEB_WORK"))
	time.Sleep(startup)
	if err := eventlog.Write("ready", eventlog.Now()); err != nil {
		return err
	}
	err = graceful.Serve(&http.Server{Handler: answer(work)}, listeners...)
	return errors.Join(err, eventlog.Write("exit", eventlog.Now()))
}

func answer(work time.Duration) http.Handler {
	body := []byte(os.Getenv("SERVER_STARTER_GENERATION"))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(work)
		w.Write(body)
	})
}
