package listener

import (
	"fmt"
	"os"
	"strconv"

	"github.com/start-server/start-server/listener/internal/environ"
)

const (
	listenPID      = "LISTEN_PID"
	listenFDs      = "LISTEN_FDS" // sd_listen_fds(3)
	firstActivated = 3
)

// passed reports whether anything may have been passed, be it nothing at all.
func passed() bool {
	return IsUnderStartServer() || isActivated()
}

// isActivated reports whether systemd's variables are meant for this process.
func isActivated() bool {
	return environ.Get(listenPID) == strconv.Itoa(os.Getpid()) && environ.Get(listenFDs) != ""
}

// variable returns the name of the one that lists what was passed.
func variable() string {
	if !IsUnderStartServer() && isActivated() {
		return listenFDs
	}
	return ServerStarterEnvVarName
}

// activated returns the sockets of systemd's socket activation, by the addresses that they are
// bound to. Other descriptors, which systemd can pass as well, are left out.
func activated() (List, error) {
	if !isActivated() {
		return nil, ErrNoListeningTarget
	}
	value := environ.Get(listenFDs)
	count, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read %s: %q is not a number of descriptors", listenFDs, value)
	}
	var targets List
	for i := range count {
		fd := uintptr(firstActivated + i)
		s, err := inspect(fd)
		switch {
		case err != nil:
			continue
		case s.addr.IsValid():
			targets = append(targets, TCPListener{Addr: s.addr.Addr().String(), Port: int(s.addr.Port()), fd: fd})
		default:
			targets = append(targets, UnixListener{Path: s.path, fd: fd})
		}
	}
	if targets == nil {
		return nil, ErrNoListeningTarget
	}
	return targets, nil
}
