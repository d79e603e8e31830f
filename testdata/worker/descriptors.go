package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// descriptors returns a line for each descriptor that the worker inherited. It leaves out those
// with the close-on-exec flag, which the Go runtime has opened.
func descriptors() string {
	var b strings.Builder
	for fd := range 256 {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		fmt.Fprintf(&b, "%d %s\n", fd, describe(fd))
	}
	return b.String()
}

func describe(fd int) string {
	socktype, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if kind, _, ok := strings.Cut(name, ":["); ok { // pipe:[1234]: the number is arbitrary
			return kind
		}
		return name
	}
	kind := map[int]string{unix.SOCK_STREAM: "stream", unix.SOCK_DGRAM: "datagram"}[socktype]
	mode := "blocking"
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); flags&unix.O_NONBLOCK != 0 {
		mode = "nonblocking"
	}
	return fmt.Sprintf("socket %s %s %s", family(fd), kind, mode)
}

func family(fd int) string {
	addr, _ := unix.Getsockname(fd)
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		return "ipv4"
	case *unix.SockaddrInet6:
		if only, _ := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); only == 1 {
			return "ipv6only"
		}
		return "ipv6"
	case *unix.SockaddrUnix:
		return "unix"
	default:
		return fmt.Sprintf("%T", a)
	}
}
