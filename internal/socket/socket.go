// Package socket makes the sockets that the superdaemon passes to its workers: it opens them or
// takes them over from a service manager, and assigns their numbers in the worker.
//
// It uses system calls, not package net, and leaves the sockets in blocking mode. Every living
// worker shares their open file descriptions, so their flags must not change once a worker has
// them.
package socket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/account"
	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/process"
)

// defaultBacklog is SOMAXCONN of the C library. The kernel lowers it to its own limit.
const defaultBacklog = 4096

// A Socket is bound and, if it is a stream socket, listening.
type Socket struct {
	Key         string `json:"key"`          // as in SERVER_STARTER_PORT
	FD          int    `json:"fd"`           // its descriptor in the superdaemon, close-on-exec
	RequestedFD int    `json:"requested_fd"` // the number asked for in the worker, or -1
	Name        string `json:"name"`         // its name in LISTEN_FDNAMES
	Listening   bool   `json:"listening"`    // it was listening when it was opened or taken over, see Mend
	Given       bool   `json:"given"`        // by the service manager, from a socket unit
	Stored      bool   `json:"stored"`       // the service manager keeps it as well: its file stays
	Path        string `json:"path"`         // of the socket file, if start_server made it, or ""
	Device      uint64 `json:"device"`       // of that file
	Inode       uint64 `json:"inode"`
}

// OpenPort binds a port and listens on it. The backlog is a number of connections; 0 means
// defaultBacklog.
func OpenPort(p portspec.Port, backlog int) (*Socket, error) {
	family, addr, err := resolve(p)
	if err != nil {
		return nil, fmt.Errorf("resolve the host of --port %s: %w", p.Key, err)
	}
	kind := unix.SOCK_STREAM
	if p.UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := newSocket(family, kind)
	if err != nil {
		return nil, fmt.Errorf("make a socket for %s: %w%s", p.Key, err, process.LimitHint(err))
	}
	if err := bindAndListen(fd, kind, addr, backlog); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind %s: %w%s", p.Key, err, advice(err))
	}
	return &Socket{Key: p.Key, FD: fd, RequestedFD: p.FD, Name: FDName(p.Key), Listening: !p.UDP}, nil
}

// advice returns, in parentheses, what to do about an error of bind(2), or "".
func advice(err error) string {
	switch err {
	case unix.EADDRINUSE:
		return " (another process has it: ss -lntup or lsof -i names it)"
	case unix.EACCES:
		return " (a port below 1024 takes root or CAP_NET_BIND_SERVICE)"
	}
	return ""
}

func newSocket(family, kind int) (int, error) {
	fd, err := unix.Socket(family, kind, 0)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if family == unix.AF_UNIX {
		return fd, nil
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil && family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func bindAndListen(fd, kind int, addr unix.Sockaddr, backlog int) error {
	err := unix.Bind(fd, addr)
	if err == nil && kind == unix.SOCK_STREAM {
		err = listen(fd, backlog)
	}
	return err
}

func listen(fd, backlog int) error {
	if backlog == 0 {
		backlog = defaultBacklog
	}
	return unix.Listen(fd, backlog)
}

// resolve returns the address of a port: any IPv4 address if no host is given, the first IPv4
// address of a host name (Server::Starter 0.35).
func resolve(p portspec.Port) (family int, addr unix.Sockaddr, err error) {
	if p.Host == "" {
		return unix.AF_INET, &unix.SockaddrInet4{Port: p.Port}, nil
	}
	if p.IPv6() {
		ip, err := netip.ParseAddr(p.Host)
		return unix.AF_INET6, &unix.SockaddrInet6{Port: p.Port, Addr: ip.As16()}, err
	}
	ip, err := LookupIPv4(context.Background(), p.Host)
	if err != nil {
		return 0, nil, err
	}
	return unix.AF_INET, &unix.SockaddrInet4{Port: p.Port, Addr: ip.As4()}, nil
}

// Resolve returns the address that OpenPort binds for a port.
func Resolve(p portspec.Port) (netip.AddrPort, error) {
	_, addr, err := resolve(p)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if addr6, ok := addr.(*unix.SockaddrInet6); ok {
		return netip.AddrPortFrom(netip.AddrFrom16(addr6.Addr), uint16(p.Port)), nil
	}
	return netip.AddrPortFrom(netip.AddrFrom4(addr.(*unix.SockaddrInet4).Addr), uint16(p.Port)), nil
}

// LookupIPv4 returns the address that gethostbyname(3) returns first for a host, see parseIPv4 for
// the forms of an address. It keeps the order of /etc/hosts. Of the answers of a name server, package
// net puts those last that this system has no route to, and those of narrower scope, such as
// 127.0.0.1.
func LookupIPv4(ctx context.Context, host string) (netip.Addr, error) {
	if strings.Trim(host, "0123456789.") == "" && !strings.HasSuffix(host, ".") {
		return parseIPv4(host)
	}
	// Binaries with cgo would use the C library's resolver for some configurations, which may
	// return something else. The other methods of Resolver sort the lines of /etc/hosts.
	resolver := net.Resolver{PreferGo: true}
	addrs, err := resolver.LookupHost(ctx, host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, s := range addrs {
		if a, err := netip.ParseAddr(s); err == nil && a.Unmap().Is4() {
			return a.Unmap(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("host %q has no IPv4 address", host)
}

// parseIPv4 parses an address as inet_aton(3) does: up to four numbers, the last of which stands
// for all bytes that are left, as in "0" and "127.1". A number that begins with 0 is octal.
// gethostbyname(3) does not accept hexadecimal numbers.
func parseIPv4(host string) (netip.Addr, error) {
	parts := strings.Split(host, ".")
	var addr uint64
	for i, part := range parts {
		base, bits := 10, 8
		if strings.HasPrefix(part, "0") {
			base = 8
		}
		if i == len(parts)-1 {
			bits = 32 - 8*i
		}
		n, err := strconv.ParseUint(part, base, bits)
		if err != nil || i > 3 {
			return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address", host)
		}
		addr = addr<<bits | n
	}
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(addr)))), nil
}

// Access decides which users can connect to a unix socket.
type Access struct {
	Mode  uint32        // permissions, whatever the umask
	Owner account.Owner // of the socket file
}

// DefaultAccess lets all users connect (Server::Starter 0.35).
var DefaultAccess = Access{Mode: 0o777, Owner: account.Owner{UID: account.Unchanged, GID: account.Unchanged}}

// Access returns the present access to the socket file.
func (s *Socket) Access() (Access, error) {
	var st unix.Stat_t
	if err := unix.Lstat(s.Path, &st); err != nil {
		return Access{}, fmt.Errorf("read the access to %q: %w", s.Path, err)
	}
	return Access{Mode: uint32(st.Mode) & 0o777, Owner: account.Owner{UID: int(st.Uid), GID: int(st.Gid)}}, nil
}

// OpenPath listens on a unix socket. It removes an existing socket file, after a call of removing;
// any other existing file is an error.
func OpenPath(path string, backlog int, access Access, removing func(path string)) (*Socket, error) {
	if err := makeRoom(path, removing); err != nil {
		return nil, err
	}
	fd, err := newSocket(unix.AF_UNIX, unix.SOCK_STREAM)
	if err != nil {
		return nil, fmt.Errorf("make a socket for %q: %w%s", path, err, process.LimitHint(err))
	}
	if err := bindPath(fd, path, access.Mode); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on %q: %w", path, err)
	}
	s := &Socket{Key: path, FD: fd, RequestedFD: -1, Name: FDName(path), Path: path, Listening: true}
	if err := s.publish(access, backlog); err != nil {
		s.Close()
		return nil, fmt.Errorf("listen on %q: %w", path, err)
	}
	return s, nil
}

// publish sets the access to a socket file that this process has just made, and starts listening:
// before, no client can connect. In a directory that other users can write to, another file may
// have taken its place: that one is not changed.
func (s *Socket) publish(access Access, backlog int) error {
	var st unix.Stat_t
	if err := unix.Lstat(s.Path, &st); err != nil {
		return err
	}
	s.Device, s.Inode = uint64(st.Dev), st.Ino
	if uint32(st.Mode)&0o777 != access.Mode || !owns(access.Owner, &st) {
		if st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Nlink != 1 || int(st.Uid) != unix.Geteuid() {
			return errors.New("another file has taken its place")
		}
		if err := s.setAccess(access); err != nil {
			return err
		}
	}
	return listen(s.FD, backlog)
}

// SetAccess changes the access to the socket file. It does not touch a file that has this access
// already, nor another one that has taken its place.
func (s *Socket) SetAccess(access Access) error {
	if s.Path == "" {
		return nil
	}
	if err := s.setAccess(access); err != nil {
		return fmt.Errorf("set the access to %q: %w", s.Path, err)
	}
	return nil
}

// owns reports whether a file has the requested owner.
func owns(o account.Owner, st *unix.Stat_t) bool {
	return (o.UID == account.Unchanged || o.UID == int(st.Uid)) && (o.GID == account.Unchanged || o.GID == int(st.Gid))
}

// makeRoom removes an existing socket file. Any other existing file is an error.
func makeRoom(path string, removing func(path string)) error {
	switch info, err := os.Lstat(path); {
	case err == nil && info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("listen on %q: file exists and is not a socket", path)
	case err == nil:
		removing(path)
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove the existing socket file %q: %w", path, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("listen on %q: %w", path, err)
	}
	return nil
}

// bindPath creates the socket file. The file may be called @NAME, which would be an abstract address
// for package unix.
func bindPath(fd int, path string, mode uint32) error {
	name := path
	if strings.HasPrefix(name, "@") {
		name = "./" + name
	}
	_ = unix.Fchmod(fd, mode) // on Linux the file never has a wider mode
	err := unix.Bind(fd, &unix.SockaddrUnix{Name: name})
	if err == unix.EINVAL && len(name) > maxPath {
		return fmt.Errorf("path of %d bytes is longer than a socket address allows (%d)", len(name), maxPath)
	}
	return err
}

// maxPath is the length of the longest path in a socket address, which ends with a NUL byte.
const maxPath = len(unix.RawSockaddrUnix{}.Path) - 1

// TakeOver returns a Socket for a descriptor of a socket that is in use, and for its socket file at
// path, if there is one. It sets the length of the queue to backlog.
func TakeOver(fd int, key, path string, backlog int) *Socket {
	s := &Socket{Key: key, FD: fd, RequestedFD: -1, Name: FDName(key)}
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_STREAM {
		_ = listen(fd, backlog) // it is listening already
		s.Listening = true
	}
	var st unix.Stat_t
	if path != "" && unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		s.Path, s.Device, s.Inode = path, uint64(st.Dev), st.Ino
	}
	return s
}

// Same reports whether path is the socket file of s.
func (s *Socket) Same(path string) bool {
	var st unix.Stat_t
	return s.Path != "" && unix.Lstat(path, &st) == nil && uint64(st.Dev) == s.Device && st.Ino == s.Inode
}

// Close closes the socket, and removes the file at its path if that is still its socket file and
// nothing else keeps the socket.
func (s *Socket) Close() {
	if s.Same(s.Path) && !s.Stored {
		_ = unix.Unlink(s.Path)
	}
	unix.Close(s.FD)
}
