package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

// greeting is the body of every answer.
const greeting = "generation %d\n"

// What a worker says on its standard output, to those who wait for it.
const (
	servingLine = "serving %d %s" // generation, address
	stoppedLine = "stopped %d"    // generation
)

// serve is the worker. The kinds differ in nothing but how they stop.
func serve(kind string) error {
	generation, _ := listener.Generation()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, greeting, generation)
	})}
	listeners, err := listener.ListenAll()
	if err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM) // before it says that it serves
	fmt.Printf(servingLine+"\n", generation, listeners[0].Addr())

	switch kind {
	case "graceful":
		err = graceful.Serve(srv, listeners[0])
	case "plain":
		ended := make(chan error)
		go func() {
			<-term
			ended <- srv.Shutdown(context.Background())
		}()
		if err = srv.Serve(listeners[0]); err == http.ErrServerClosed {
			err = <-ended
		}
	default:
		err = fmt.Errorf("no such worker: %q", kind)
	}
	if err == nil {
		fmt.Printf(stoppedLine+"\n", generation)
	}
	return err
}
