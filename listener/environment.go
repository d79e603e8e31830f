package listener

import "github.com/start-server/start-server/listener/internal/environ"

// UnsetEnv keeps what was passed to this process from the processes that it starts from now on: it
// removes SERVER_STARTER_PORT and start_server's NOTIFY_SOCKET, or else systemd's LISTEN_PID,
// LISTEN_FDS and LISTEN_FDNAMES, from the environment, and marks the sockets close-on-exec. The
// functions of this package keep working. SERVER_STARTER_GENERATION stays, since it is no more than
// a number, and so does the NOTIFY_SOCKET of systemd, to which a service may report more than that
// it is ready.
//
// A program that starts others calls it first in main. A child that inherits all that can report
// READY=1 in the place of the server, and keep serving its sockets even when start_server has ended.
//
// The error is about a variable that cannot be understood; it was removed all the same.
func UnsetEnv() error {
	_, err := inherited()
	if err == ErrNoListeningTarget {
		err = nil
	}
	if IsUnderStartServer() {
		environ.Take(ServerStarterEnvVarName, notifySocket)
	}
	if isActivated() {
		environ.Take(listenPID, listenFDs, "LISTEN_FDNAMES")
	}
	return err
}
