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

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/listener"
	"github.com/start-server/start-server/listener/graceful"
)

// greeting is the body of every answer.
const greeting = "generation %d\n"

// The lines that a worker writes to its standard output.
const (
	servingLine = "serving %d %d %s" // generation, pid, address
	askedLine   = "asked"            // a request has arrived; only with a delay
	stoppedLine = "stopped %d"       // generation
)

// The protocols of a worker.
const (
	http1 = "HTTP/1"
	http2 = "HTTP/2"
	h2c   = "h2c"
)

// serve runs the worker. The kinds differ only in how they stop.
func serve(kind, protocol string, delay time.Duration, stop unix.Signal) error {
	generation, _ := listener.Generation()
	srv := newServer(protocol, func(w http.ResponseWriter, r *http.Request) {
		if delay > 0 {
			fmt.Println(askedLine)
			time.Sleep(delay)
		}
		fmt.Fprintf(w, greeting, generation)
	})
	listeners, err := listener.ListenAll()
	if err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signals := []os.Signal{syscall.SIGTERM, syscall.SIGQUIT}
	if stop != 0 {
		signals = append(signals, stop)
	}
	signal.Notify(term, signals...) // before it reports that it serves
	fmt.Printf(servingLine+"\n", generation, os.Getpid(), listeners[0].Addr())

	switch kind {
	case "graceful":
		err = serveGracefully(srv, listeners[0], stop)
	case "plain":
		err = servePlainly(srv, listeners[0], term)
	default:
		err = fmt.Errorf("no such worker: %q", kind)
	}
	if err == nil {
		fmt.Printf(stoppedLine+"\n", generation)
	}
	return err
}

// newServer returns a server that speaks the protocol; with a TLSConfig if that is HTTP/2.
func newServer(protocol string, handler http.HandlerFunc) *http.Server {
	srv := &http.Server{Handler: handler}
	switch protocol {
	case http2:
		site := httptest.NewTLSServer(nil)
		site.Close() // only its certificate is needed
		srv.TLSConfig = &tls.Config{Certificates: site.TLS.Certificates}
	case h2c:
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetUnencryptedHTTP2(true)
	}
	return srv
}

func serveGracefully(srv *http.Server, l net.Listener, stop unix.Signal) error {
	var g graceful.Group
	if stop != 0 && stop != unix.SIGQUIT { // which it takes by itself
		g.Signals = []os.Signal{stop}
	}
	if srv.TLSConfig != nil {
		g.AddHTTPS(srv, "", "", l)
	} else {
		g.AddHTTP(srv, l)
	}
	return g.Run(context.Background())
}

// servePlainly serves as in the documentation of net/http.
func servePlainly(srv *http.Server, l net.Listener, term <-chan os.Signal) error {
	ended := make(chan error)
	go func() {
		<-term
		ended <- srv.Shutdown(context.Background())
	}()
	var err error
	if srv.TLSConfig != nil {
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	if err == http.ErrServerClosed {
		err = <-ended
	}
	return err
}
