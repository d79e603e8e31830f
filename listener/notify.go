package listener

import (
	"fmt"
	"net"
	"os"
	"strconv"
)

// Generation is the number of this generation of the server, 1 for the first that start_server started, one more for
// each attempt since. It is false where the program does not run under start_server.
func Generation() (int, bool) {
	generation, err := strconv.Atoi(os.Getenv("SERVER_STARTER_GENERATION"))
	if err != nil || generation < 1 {
		return 0, false
	}
	return generation, true
}

// Ready says that the server is able to serve, by the protocol of sd_notify(3): start_server --ready-timeout swaps
// generations on that, and systemd, for a service of Type=notify, counts the start as done. Where nobody wants to know
// ($NOTIFY_SOCKET is not set) it does nothing.
func Ready() error {
	name := os.Getenv("NOTIFY_SOCKET") // a path, or an abstract name with @ for its first byte
	if name == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("say READY=1 to $NOTIFY_SOCKET: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("READY=1")); err != nil {
		return fmt.Errorf("say READY=1 to $NOTIFY_SOCKET: %w", err)
	}
	return nil
}
