//go:build unix

package listener

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

const connectionRefused = syscall.ECONNREFUSED

// inspect asks the system and changes nothing.
func inspect(fd uintptr) (socket, error) {
	var s socket
	kind, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return s, err
	}
	name, err := syscall.Getsockname(int(fd))
	if err != nil {
		return s, err
	}
	// If the system does not report whether a socket listens, the first Accept will fail.
	accepts, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	s.listening = err != nil || accepts != 0

	networks := map[int]string{syscall.SOCK_STREAM: "tcp", syscall.SOCK_DGRAM: "udp"}
	switch name := name.(type) {
	case *syscall.SockaddrInet4:
		s.addr = netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *syscall.SockaddrInet6:
		s.addr = netip.AddrPortFrom(netip.AddrFrom16(name.Addr).WithZone(zone(name.ZoneId)), uint16(name.Port))
		only, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY)
		s.dual = s.addr.Addr().IsUnspecified() && err == nil && only == 0
	case *syscall.SockaddrUnix:
		s.path = name.Name
		networks = map[int]string{
			syscall.SOCK_STREAM: "unix", syscall.SOCK_DGRAM: "unixgram", syscall.SOCK_SEQPACKET: "unixpacket",
		}
	}
	if s.network = networks[kind]; s.network == "" {
		return s, errors.ErrUnsupported
	}
	return s, nil
}

// zone names the interface as package net does in the addresses that it resolves.
func zone(id uint32) string {
	if id == 0 {
		return ""
	}
	if ifi, err := net.InterfaceByIndex(int(id)); err == nil {
		return ifi.Name
	}
	return strconv.FormatUint(uint64(id), 10)
}

func closeOnExec(fd uintptr) {
	syscall.CloseOnExec(int(fd))
}

// duplicate gives a descriptor that no process started meanwhile inherits. It is not dup3(2) or
// F_DUPFD_CLOEXEC only because package syscall does not have them everywhere.
func duplicate(fd uintptr) (*os.File, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	duplicate, err := syscall.Dup(int(fd))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(duplicate)
	return os.NewFile(uintptr(duplicate), "inherited socket"), nil
}
