package listener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"time"

	"github.com/start-server/start-server/listener/internal/environ"
)

const notifySocket = "NOTIFY_SOCKET" // sd_notify(3)

// readyTimeout is how long Ready waits for a manager that is slow to read.
const readyTimeout = 5 * time.Second

// Generation returns the number of this generation of the server: 1 for the first that start_server
// started, one more for each attempt since. It is false if the program does not run under
// start_server.
func Generation() (int, bool) {
	generation, err := strconv.Atoi(environ.Get("SERVER_STARTER_GENERATION"))
	if err != nil || generation < 1 {
		return 0, false
	}
	return generation, true
}

// ConnectionIDPrefix returns the three bytes that begin every QUIC connection ID which a server under
// start_server --steer-udp issues, so that the kernel finds the generation of a packet: g, g XOR 0xff
// and g XOR 0x5a, where g is the generation modulo 256. The bytes after them are random: RFC 9000
// requires that an ID cannot be predicted, and allows 20 bytes; 8 or more random ones are enough.
//
// The second and third byte repeat the first because other packets reach the newest generation only
// if they do not begin like an ID of an older one. The ID in the first packet of a connection, which
// the client chooses at random, does so once in 16 million packets.
//
// The bool is false if the program does not run under start_server. Without --steer-udp the prefix
// does no harm.
func ConnectionIDPrefix() ([3]byte, bool) {
	generation, ok := Generation()
	g := byte(generation)
	return [3]byte{g, g ^ 0xff, g ^ 0x5a}, ok
}

// Ready reports that the server is able to serve, by the protocol of sd_notify(3): start_server
// --ready-timeout swaps generations on that, and systemd, for a service of Type=notify, counts the
// start as done. It does nothing if nothing listens for it: $NOTIFY_SOCKET is not set, or names a
// socket that is not there.
//
// An error, which names $NOTIFY_SOCKET, is a reason to write a line to the log, and none to end a
// server that is able to serve. Ready takes 5 seconds at most, and that only if the manager does
// not read.
func Ready() error { return Notify("READY=1") }

// Notify reports any state of sd_notify(3), as [Ready] does READY=1: "STATUS=loading",
// "EXTEND_TIMEOUT_USEC=30000000". Unlike other packages for that it works after [UnsetEnv].
func Notify(state string) error {
	name := environ.Get(notifySocket) // a path, or an abstract name with @ for its first byte
	if name == "" {
		return nil
	}
	if err := notify(name, state); err != nil {
		return fmt.Errorf("report %s to $NOTIFY_SOCKET: %w", state, err)
	}
	return nil
}

func notify(name, state string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, connectionRefused) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(readyTimeout))
	_, err = conn.Write([]byte(state))
	return err
}

// IsUnderStartServer reports whether start_server has started the program. The name is that of
// shogo82148's package listener.
func IsUnderStartServer() bool {
	_, ok := environ.Lookup(ServerStarterEnvVarName)
	return ok
}

// ListenConfig is what [PortsFallback] returns. The name is that of shogo82148's package listener.
type ListenConfig interface {
	Listen(ctx context.Context, network, address string) (net.Listener, error)
}

// PortsFallback returns [Listen] as a method. It is for programs written for shogo82148's package
// listener; others call Listen.
func PortsFallback() (ListenConfig, error) { return portsFallback{}, nil }

type portsFallback struct{}

func (portsFallback) Listen(_ context.Context, network, address string) (net.Listener, error) {
	return Listen(network, address)
}
