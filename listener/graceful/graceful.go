// Package graceful serves HTTP under start_server and stops without losing a request. In place of
//
//	err := server.ListenAndServe()
//
// write
//
//	err := graceful.ListenAndServe(server)
//
// The server then takes the sockets that start_server passes, or listens on server.Addr if it was
// started by hand; reports that it is ready, as [listener.Ready] does; and on SIGTERM stops as
// described below, after which ListenAndServe returns nil and the program may end. Started by hand
// it does the same on SIGINT (Ctrl-C).
//
// Two servers of a process, like a site and its admin page, do not answer on each other's sockets:
// one whose Addr names a socket that was passed (":8080" under --port=8080) serves that one alone,
// one whose Addr names none serves all that no other server of the process serves, and gets an
// error if none is left. For several servers use a [Group], in which the order does not matter. It
// takes HTTP, HTTPS and anything else, and has settings:
//
//	g := graceful.Group{DrainTimeout: time.Minute, Logf: log.Printf}
//	g.AddHTTP(site)                           // on site.Addr
//	g.AddHTTPS(secure, "cert.pem", "key.pem") // on secure.Addr
//	err := g.Run(context.Background())
//
// When it begins to serve, the package calls [listener.UnsetEnv], so that processes that the program
// starts from then on inherit neither the sockets nor the variables. A program that starts some
// before calls that itself, first in main.
//
// # How it stops
//
//  1. It begins to drain. The channel of [Draining] is closed, so that handlers whose answers have
//     no end can end them.
//  2. It stops accepting. What waits in the socket's queue is for the next generation, which shares
//     the socket.
//  3. Every connection that was accepted is answered, including those whose request has not been
//     read yet and kept-alive ones that get a further request. An answer asks the client to close
//     the connection (Connection: close, or GOAWAY over HTTP/2), unless its header was sent before
//     or it is to a request whose body was on its way when the drain began: such a connection can
//     get a further request. Of requests that a client has sent at once (pipelining) only the last
//     answer asks; over TLS until Go 1.26 the first does. A kept-alive connection on which no
//     request comes is closed 5 seconds after its last answer ([Group.Grace]); one on which nothing
//     has come for longer is closed at once. (That can be seen of TCP on Linux. Elsewhere, and on
//     unix sockets, the 5 seconds count from when the drain began.)
//  4. What was given to [http.Server.RegisterOnShutdown] is run when each connection that is left is
//     hijacked or has had a request under way for a second, which can be some seconds after the
//     drain began; it is not waited for, as with net/http alone. With Go 1.26 and older it is run
//     when the drain begins, and waited for.
//  5. It returns when no connection is left, hijacked ones like WebSockets included.
//
// That takes as long as the slowest request, unless [Group.DrainTimeout] or start_server's
// --kill-timeout sets a limit. [Group.Logf] shows what is waited for, with the address of the
// client that has taken longest.
//
// Under start_server SIGQUIT is taken as SIGTERM. If its --signal-on-hup or --signal-on-term names
// another signal, set [Group.Signals]; USR1, USR2 and INT are logged, once, if they come and are not
// taken.
//
// A repeated SIGTERM changes nothing. A repeated SIGINT (Ctrl-C twice) ends it at once: connections
// are closed.
//
// [http.Server.Shutdown] alone loses requests: it closes idle connections while a request may be on
// its way, and drops requests that it has read but not yet begun to answer.
//
// # HTTP/2
//
// net/http ends an HTTP/2 connection with a single GOAWAY and drops the requests that cross it; a
// client that may not send a request twice, like a proxy with a POST, reports an error then. This
// package sends the GOAWAY that RFC 9113, 6.8, asks for before that one, and takes what is on its
// way. It is tested with Go 1.25 to 1.27. With another net/http the single GOAWAY may remain, sent on
// the first answer of each connection after the drain began; so it does since Go 1.27 for HTTPS if the
// program fills in TLSNextProto, as ConfigureServer of golang.org/x/net/http2 does: set the server's
// HTTP2 field instead. The group logs a line then, at the first request.
//
// HTTP/3 needs a server of its own, such as quic-go's, which [Group.Add] takes, and start_server
// --steer-udp: each packet of a shared UDP socket would go to any one of the processes. A recipe is in
// testdata/examples/http3.
//
// # What is left to you
//
// The server's Handler, ConnState, ConnContext, BaseContext and TLSNextProto keep working, but the
// fields are changed, so do not use the server for anything else meanwhile. If the program calls its Shutdown
// or Close, that ends it, and [http.ErrServerClosed] is returned at once, as by net/http.
//
// A hijacked connection is waited for until it is closed, so close it: when the channel of
// [Draining] is closed, send the message by which your protocol ends a connection. What Hijack
// returns has the methods of the [net.TCPConn] or [tls.Conn] but is not of these types. A
// connection that is hijacked from a request with a body and without an Upgrade header is neither
// waited for nor closed.
//
// A program that sorts connections by their first bytes, like cmux, drops those that it has not
// sorted when its listener is closed: 48 of 11,487 over 20 restarts. For HTTP and gRPC on one port it
// is not needed, see testdata/examples/grpchttp of the repository.
//
// A socket that was made blocking cannot be closed; see [listener.File] for how to pass a socket to
// a child.
package graceful

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
)

// ListenAndServe serves on the socket that start_server passed for srv.Addr or, if srv.Addr names
// none of them, on every stream socket that no other server of the process serves; an error if none
// is left. It listens on srv.Addr (":http" if empty) if the program was started by hand. It returns
// nil when it was stopped by a signal and every request was answered. It is a [Group] of one server;
// use that for several, or to set a limit.
func ListenAndServe(srv *http.Server) error { return Serve(srv) }

// ListenAndServeTLS is [ListenAndServe] for HTTPS, HTTP/2 included, with ":https" for an empty
// srv.Addr. The files are as for [http.Server.ListenAndServeTLS]: both may be empty if
// srv.TLSConfig has the certificate.
func ListenAndServeTLS(srv *http.Server, certFile, keyFile string) error {
	var g Group
	g.AddHTTPS(srv, certFile, keyFile)
	return g.Run(context.Background())
}

// Serve serves on these listeners, which it closes in the end. It returns what [ListenAndServe]
// returns, and does the same if there are no listeners.
func Serve(srv *http.Server, listeners ...net.Listener) error {
	var g Group
	g.AddHTTP(srv, listeners...)
	return g.Run(context.Background())
}

// loadCertificate loads it before the server reports that it is ready.
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
