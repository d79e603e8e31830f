// Package listener is for servers that run under start_server, the superdaemon that binds the
// sockets and replaces one generation of a server with the next without closing them. It imports
// nothing but the standard library.
//
// start_server, be it this project's or the original in Perl, passes its sockets as open
// descriptors and lists them in an environment variable. A server gets its sockets from this
// package instead of [net], and stops on SIGTERM after it has answered what it had accepted:
//
//	l, err := listener.Listen("tcp", ":8080")
//
// Started with
//
//	start_server --port=8080 -- ./server
//
// this is the socket that start_server bound. Started as ./server it is [net.Listen]. So one line
// serves production and the developer's terminal. [ListenAll] returns whatever was passed and
// leaves the addresses to the operator. Sockets of systemd's socket activation are found the same
// way.
//
// # Servers
//
// Package [github.com/start-server/start-server/listener/graceful] does all of the above for a
// [net/http.Server], for several servers in one process, and for servers of other kinds, and stops
// them without losing a request.
//
// A program that starts other processes calls [UnsetEnv] first, so that they inherit neither the
// variables nor the sockets. Package graceful calls it when it first listens.
//
// Complete programs are in testdata/examples of the repository: net/http, HTTP and HTTPS in one
// process, WebSocket, event streams, gRPC, fasthttp, DNS over UDP and TCP, Gin, Echo, chi, and a
// protocol of its own over TCP. The tests replace each of them under load.
//
// The order in which a server stops is what decides whether requests are lost:
//
//  1. Close the listener, and nothing else. What waits in the socket's queue is for the next
//     generation.
//  2. Wait until Accept has failed, so that everything that was accepted is known.
//  3. Answer what was accepted, and let clients know that the connection ends: by Connection:
//     close, by GOAWAY, or by what your protocol has for it. Connections that are idle are closed
//     when their clients have had time to notice.
//
// Most servers' own Shutdown does it in another order. A UDP socket is read by all generations,
// each datagram by one of them: end the reading by a deadline ([net.PacketConn.SetReadDeadline]),
// not by Close, and send the answers that are due. Protocols with connections over UDP, like
// HTTP/3, cannot be shared that way.
//
// # Readiness
//
// With --ready-timeout, start_server replaces the old generation when the new one calls [Ready].
// Without that option Ready does nothing, so always call it, when the server is able to answer.
//
// # Descriptors
//
// Each call opens a duplicate. Listeners can thus be closed, dropped and opened again; the
// descriptor that was inherited stays open for the life of the process and is marked close-on-exec,
// so that processes that the server starts do not hold the sockets. That mark is set by every
// Listen function on every socket of the variable, including those not asked for; [Ports] alone
// leaves them as they are. Closing a listener never removes a unix socket's file.
//
// The Go runtime needs its sockets in non-blocking mode, a property that all generations share.
// Listening sets it; nothing here ever takes it back. [File] hands a socket to a child process and
// leaves the mode as it is. The File method of [net.TCPListener] does not: os/exec then makes the
// socket blocking, and the old generation's Accept, which waits in the kernel, is then ended
// neither by Close nor by a deadline.
package listener
