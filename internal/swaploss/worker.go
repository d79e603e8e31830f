package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

// greeting is the body of every answer.
const greeting = "generation %d\n"

// What a worker writes to its standard output, for those who wait for it.
const (
	servingLine = "serving %d %d %s" // generation, pid, address
	askedLine   = "asked"            // a request has arrived; only with a delay
	stoppedLine = "stopped %d"       // generation
)

// What a worker can speak.
const (
	http1 = "HTTP/1"
	http2 = "HTTP/2"
	h2c   = "h2c"
)

// serve is the worker. The kinds differ in nothing but how they stop.
func serve(kind, protocol string, delay time.Duration) error {
	generation, _ := listener.Generation()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if delay > 0 {
			fmt.Println(askedLine)
			time.Sleep(delay)
		}
		fmt.Fprintf(w, greeting, generation)
	})}
	accept := srv.Serve
	switch protocol {
	case http2:
		site := httptest.NewTLSServer(nil)
		site.Close() // all that is wanted is its certificate
		srv.TLSConfig = &tls.Config{Certificates: site.TLS.Certificates}
		accept = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	case h2c:
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetUnencryptedHTTP2(true)
	}
	listeners, err := listener.ListenAll()
	if err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM) // before it reports that it serves
	fmt.Printf(servingLine+"\n", generation, os.Getpid(), listeners[0].Addr())

	switch kind {
	case "graceful":
		var g graceful.Group
		if protocol == http2 {
			g.AddHTTPS(srv, "", "", listeners[0])
		} else {
			g.AddHTTP(srv, listeners[0])
		}
		err = g.Run(context.Background())
	case "plain":
		ended := make(chan error)
		go func() {
			<-term
			ended <- srv.Shutdown(context.Background())
		}()
		if err = accept(listeners[0]); err == http.ErrServerClosed {
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
