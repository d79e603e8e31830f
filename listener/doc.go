// Package listener is for servers that run under start_server, the superdaemon that binds the sockets and swaps one
// generation of a server for the next without closing them. It imports nothing but the standard library.
//
// start_server, be it this project's or the original in Perl, hands its sockets down as open descriptors and tells
// about them in an environment variable. A server that takes part gets its sockets from here instead of from [net] and
// stops on SIGTERM after it has answered what it had accepted:
//
//	l, err := listener.Listen("tcp", ":8080")
//
// Started with
//
//	start_server --port=8080 -- ./server
//
// this is the socket that start_server bound. Started as ./server it is [net.Listen]. So one line serves production
// and the developer's terminal. [ListenAll] gives whatever was handed down and leaves the addresses to the operator.
//
// # HTTP
//
// Package [github.com/start-server/start-server/listener/graceful] does all of the above for an [net/http.Server], and
// stops it without losing a request, which [net/http.Server.Shutdown] alone does not do.
//
// # gRPC
//
// A grpc.Server takes the listener as it is and brings its own way of stopping:
//
//	l, err := listener.Listen("tcp", ":8080")
//	...
//	server := grpc.NewServer()
//	go func() {
//		<-term // of signal.Notify(term, syscall.SIGTERM)
//		server.GracefulStop()
//	}()
//	listener.Ready()
//	err = server.Serve(l)
//
// GracefulStop sends every client a GOAWAY, on which it connects anew and so reaches the next generation, and returns
// when the calls under way have ended. Serve returns before that: wait for GracefulStop, not for Serve, before you exit.
// Streams that never end hold the old generation until you end them, or until start_server's --kill-timeout does.
//
// # Readiness
//
// Where start_server runs with --ready-timeout it swaps generations at the moment when the new one calls [Ready].
// Without that option Ready does nothing, so call it always, when the server is able to answer.
//
// # Descriptors
//
// Each call opens a duplicate. Listeners can thus be closed, dropped and asked for again; the descriptor that was
// inherited stays open for the life of the process and is marked close-on-exec, so that processes the server starts do
// not hold the sockets. That mark is set by every Listen function on every socket of the variable, the ones not asked for
// included; [Ports] alone leaves them as they are. Closing a listener never removes a unix socket's file.
//
// The Go runtime needs its sockets in non-blocking mode, a property that all generations share. Listening sets
// it; nothing here ever takes it back. Do not call Fd on the [os.File] that [net.TCPListener.File] returns: that does.
package listener
