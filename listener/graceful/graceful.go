// Package graceful serves HTTP under start_server and stops without losing a request. In place of
//
//	err := server.ListenAndServe()
//
// say
//
//	err := graceful.ListenAndServe(server)
//
// and the server takes the sockets that start_server hands down, or listens on server.Addr where there are none; says
// that it is ready, as [listener.Ready] does; and on SIGTERM stops as described below, after which ListenAndServe
// returns nil and the program may end. Started by hand, it does the same on SIGINT (Ctrl-C). Under start_server SIGINT
// is left to start_server, which gets it from the terminal too and then sends SIGTERM.
//
// # How it stops
//
//  1. It stops accepting. What waits in the socket's queue is for the next generation, which shares the socket.
//  2. Every connection that was accepted is answered, those included whose request has not been read yet and kept-alive
//     ones that get a further request. Each answer tells the client to close the connection: `Connection: close`, or
//     GOAWAY over HTTP/2.
//  3. When no connection is left, or when 5 seconds have passed, the rest is left to [http.Server.Shutdown]: it closes
//     kept-alive connections that were idle all the time, says GOAWAY on idle HTTP/2 ones, runs what was given to
//     [http.Server.RegisterOnShutdown] and waits, as long as it takes, for the requests that are still being answered.
//     Use start_server's --kill-timeout to set a limit to that.
//
// A second signal ends it at once: all connections are closed and an error is returned.
//
// Shutdown alone closes idle connections while a request may be on its way, and drops requests that it has read but not
// yet begun to answer.
//
// # What is left to you
//
// The server's Handler and ConnState are called as ever, but the fields are changed, so the server must not be used
// otherwise meanwhile. Its Shutdown and Close may be called, and then it is theirs to end it: [http.ErrServerClosed] is
// returned at once, as by net/http. Connections that a handler has taken over (Hijack, websockets) are the handler's to end.
// Answers without an end, like event streams, should be ended by a function given to RegisterOnShutdown.
package graceful

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/start-server/start-server/listener"
)

// grace is how long clients have for a further request on a connection that they keep alive: long enough for all that
// are at work, and short beside the 10 seconds after which the most impatient service managers kill.
const grace = 5 * time.Second

// ListenAndServe serves on every stream socket that start_server handed down, or on srv.Addr (":http" if empty) where
// there is none. It returns nil when it was stopped by a signal and every request has been answered.
func ListenAndServe(srv *http.Server) error {
	listeners, err := listenAll(srv, ":http")
	if err != nil {
		return err
	}
	return Serve(srv, listeners...)
}

// ListenAndServeTLS is [ListenAndServe] for HTTPS, HTTP/2 included, with ":https" for an empty srv.Addr. The files are as
// for [http.Server.ListenAndServeTLS]: both may be empty if srv.TLSConfig has the certificate.
func ListenAndServeTLS(srv *http.Server, certFile, keyFile string) error {
	if err := loadCertificate(srv, certFile, keyFile); err != nil {
		return err
	}
	listeners, err := listenAll(srv, ":https")
	if err != nil {
		return err
	}
	return serve(srv, listeners, func(l net.Listener) error { return srv.ServeTLS(l, "", "") })
}

// Serve serves on these listeners, which it closes in the end. It returns what [ListenAndServe] returns.
func Serve(srv *http.Server, listeners ...net.Listener) error {
	return serve(srv, listeners, srv.Serve)
}

func listenAll(srv *http.Server, address string) ([]net.Listener, error) {
	listeners, err := listener.ListenAll()
	if err != listener.ErrNoListeningTarget {
		return listeners, err
	}
	if srv.Addr != "" {
		address = srv.Addr
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// loadCertificate does it before the server says that it is ready.
func loadCertificate(srv *http.Server, certFile, keyFile string) error {
	config := &tls.Config{}
	if srv.TLSConfig != nil {
		config = srv.TLSConfig.Clone()
	}
	has := len(config.Certificates) > 0 || config.GetCertificate != nil || config.GetConfigForClient != nil
	if has && certFile == "" && keyFile == "" {
		return nil
	}
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("load the certificate %q with the key %q: %w", certFile, keyFile, err)
	}
	config.Certificates = []tls.Certificate{certificate}
	srv.TLSConfig = config
	return nil
}

// serve says that the server is ready, lets accept serve each of the listeners and heeds the signals.
func serve(srv *http.Server, listeners []net.Listener, accept func(net.Listener) error) error {
	if len(listeners) == 0 {
		return errors.New("serve: no listeners")
	}
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM)
	defer signal.Stop(stop)
	interrupt := stop
	if _, ok := os.LookupEnv(listener.ServerStarterEnvVarName); ok {
		interrupt = make(chan os.Signal) // nobody reads it
		defer signal.Stop(interrupt)
	}
	signal.Notify(interrupt, os.Interrupt)

	d := newDrain(srv, listeners)
	if err := listener.Ready(); err != nil {
		d.closeListeners()
		return err
	}
	return d.run(accept, stop, grace)
}

// run serves until a signal or an error says stop, and then stops in the way that the package describes.
func (d *drain) run(accept func(net.Listener) error, stop <-chan os.Signal, grace time.Duration) error {
	ended := make(chan error, len(d.listeners))
	for _, l := range d.listeners {
		go func() { ended <- accept(l) }()
	}
	var failure error
	accepting := len(d.listeners)
	select {
	case <-stop:
	case failure = <-ended:
		accepting--
		if failure == http.ErrServerClosed {
			return failure // somebody else has called Shutdown or Close
		}
	}
	stopped := make(chan error, 1)
	go func() {
		d.begin()
		for range accepting {
			<-ended // so that what this one accepted last is known to be there
		}
		d.wait(grace)
		stopped <- d.srv.Shutdown(context.Background())
	}()
	select {
	case err := <-stopped:
		return errors.Join(failure, err)
	case signal := <-stop:
		d.srv.Close()
		return errors.Join(failure, fmt.Errorf("%v came again: connections were closed before they were answered", signal))
	}
}
