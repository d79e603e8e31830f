package listener

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/start-server/start-server/listener/internal/environ"
)

// ServerStarterEnvVarName is the name of the variable in which start_server lists what it passed:
// "key=descriptor", joined by semicolons (Server::Starter 0.35).
const ServerStarterEnvVarName = "SERVER_STARTER_PORT"

// ErrNoListeningTarget means that there is nothing to listen on: the program does not run under
// start_server, or start_server was given no socket of the kind.
var ErrNoListeningTarget = errors.New("no listening target")

// Listener is a socket that was passed.
type Listener interface {
	// Fd is the inherited descriptor. It belongs to this package: do not close it.
	Fd() uintptr
	// Listen opens the socket. It can be called again, even after the first listener was closed.
	Listen() (net.Listener, error)
	// String is the socket's entry in SERVER_STARTER_PORT.
	String() string
}

// List is all that was passed, in the order of the command line, ports first.
type List []Listener

// String returns the list as in SERVER_STARTER_PORT.
func (l List) String() string {
	entries := make([]string, len(l))
	for i, target := range l {
		entries[i] = target.String()
	}
	return strings.Join(entries, ";")
}

// TCPListener is a socket given by --port. It may be a UDP socket: the variable does not show
// which, and Listen fails then.
type TCPListener struct {
	Addr string // host name or IP address as given, IPv6 without brackets; "0.0.0.0" for a bare port
	Port int    // as given: 0 if the system was to choose

	fd    uintptr
	entry string // empty if this was not made from an entry
}

// Fd is the inherited descriptor.
func (l TCPListener) Fd() uintptr { return l.fd }

// Listen opens the socket. The error quotes the entry.
func (l TCPListener) Listen() (net.Listener, error) { return listen(l) }

// String is the entry in SERVER_STARTER_PORT, `80=3` or `127.0.0.1:80=3`.
func (l TCPListener) String() string {
	if l.entry != "" {
		return l.entry
	}
	port := strconv.Itoa(l.Port)
	if l.Addr == "0.0.0.0" {
		return fmt.Sprintf("%s=%d", port, l.fd)
	}
	host := strings.TrimSuffix(strings.TrimPrefix(l.Addr, "["), "]")
	return fmt.Sprintf("%s=%d", net.JoinHostPort(host, port), l.fd)
}

// UnixListener is a socket given by --path.
type UnixListener struct {
	Path string // as given; an abstract name starts with @

	fd    uintptr
	entry string
}

// Fd is the inherited descriptor.
func (l UnixListener) Fd() uintptr { return l.fd }

// Listen opens the socket. The error quotes the entry. Closing what it returns leaves the socket's
// file in place.
func (l UnixListener) Listen() (net.Listener, error) { return listen(l) }

// String is the entry in SERVER_STARTER_PORT, `/run/app.sock=3`.
func (l UnixListener) String() string {
	if l.entry != "" {
		return l.entry
	}
	return fmt.Sprintf("%s=%d", l.Path, l.fd)
}

// GetPortsSpecification returns SERVER_STARTER_PORT as it is. The name is kept for programs written
// for lestrrat's package listener.
func GetPortsSpecification() string {
	return environ.Get(ServerStarterEnvVarName)
}

// Ports returns what SERVER_STARTER_PORT lists. The error is [ErrNoListeningTarget] itself if that
// is not set or empty, else it quotes the entry that cannot be understood. The sockets are not
// looked at.
func Ports() (List, error) {
	return parse(GetPortsSpecification())
}

// ListenAll opens every stream socket that was passed, by start_server or, if SERVER_STARTER_PORT
// is not set, by systemd's socket activation (sd_listen_fds(3)). The error is
// [ErrNoListeningTarget] itself if there is none; a socket that cannot be opened fails them all.
func ListenAll() ([]net.Listener, error) {
	return openAll(false, listen)
}

// ListenPacketAll opens every datagram socket that was passed, as [ListenAll] does stream sockets.
func ListenPacketAll() ([]net.PacketConn, error) {
	return openAll(true, listenPacket)
}

// openAll opens the sockets of one sort, packet ones or the others.
func openAll[T interface{ Close() error }](packet bool, open func(Listener) (T, error)) ([]T, error) {
	targets, err := inherited()
	if err != nil {
		return nil, err
	}
	var opened []T
	for _, target := range targets {
		s, err := inspect(target.Fd())
		if err == nil && s.packet() != packet {
			continue
		}
		one, err := open(target)
		if err != nil {
			for _, earlier := range opened {
				earlier.Close()
			}
			return nil, err
		}
		opened = append(opened, one)
	}
	if opened == nil {
		return nil, ErrNoListeningTarget
	}
	return opened, nil
}

// inherited returns what was passed, to be opened: processes started from now on do not inherit any
// of it.
func inherited() (List, error) {
	targets, err := Ports()
	if !IsUnderStartServer() {
		targets, err = activated()
	}
	for _, target := range targets {
		if _, err := inspect(target.Fd()); err == nil {
			closeOnExec(target.Fd())
		}
	}
	return targets, err
}

func listen(target Listener) (net.Listener, error) {
	s, err := inspect(target.Fd())
	if err == nil && s.packet() {
		err = fmt.Errorf("%s socket, to be opened by ListenPacket", s.network)
	}
	if err == nil && !s.listening {
		err = errors.New("socket does not listen")
	}
	return open(target, err, net.FileListener)
}

func listenPacket(target Listener) (net.PacketConn, error) {
	s, err := inspect(target.Fd())
	if err == nil && !s.packet() {
		err = fmt.Errorf("%s socket, to be opened by Listen", s.network)
	}
	return open(target, err, net.FilePacketConn)
}

// open gives from a duplicate of the target's descriptor: package net makes a second one, and a
// file made from the inherited descriptor itself would be closed by the garbage collector. What was
// found wrong before is passed on.
func open[T any](target Listener, wrong error, from func(*os.File) (T, error)) (T, error) {
	var opened T
	if wrong != nil {
		return opened, fmt.Errorf("open %q of %s: %w", target, variable(), wrong)
	}
	closeOnExec(target.Fd())
	file, err := duplicate(target.Fd())
	if err == nil {
		defer file.Close()
		opened, err = from(file)
	}
	if err != nil {
		return opened, fmt.Errorf("open %q of %s: %w", target, variable(), err)
	}
	return opened, nil
}
