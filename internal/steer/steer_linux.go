package steer

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Supported reports whether the system can steer packets.
const Supported = true

type instruction = unix.SockFilter

// filter returns a program for the payload of a UDP packet (RFC 8999): it returns the index of the
// generation whose prefix begins the connection ID, or newest. The connection ID begins at byte 1,
// or behind a long header (bit 0x80 of byte 0) at byte 6. A load beyond the end would return 0, so
// the length comes first; no packet of QUIC is as short as that.
func filter(places map[int]int, newest int) []instruction {
	const long, shortest = 0x80, 9
	program := []instruction{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: shortest, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: uint32(newest)},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: long, Jf: 2},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 5},
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xffffff},
	}
	for _, generation := range slices.Backward(slices.Sorted(maps.Keys(places))) { // of those with the same prefix, the newest
		p := Prefix(generation)
		prefix := uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2])
		program = append(program,
			instruction{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: prefix, Jf: 1},
			instruction{Code: unix.BPF_RET | unix.BPF_K, K: uint32(places[generation])})
	}
	return append(program, instruction{Code: unix.BPF_RET | unix.BPF_K, K: uint32(newest)})
}

// attach replaces the filter of the group. It uses the descriptor as it is: os.File.Fd would make the
// socket of a worker blocking.
func attach(fd int, program []instruction) error {
	p := &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return os.NewSyscallError("setsockopt SO_ATTACH_REUSEPORT_CBPF",
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, p))
}

// Open makes the sockets of an address. It is an error if another process has the address, even if
// that would share it.
func Open(addr netip.AddrPort) (*Group, error) {
	var sockaddr unix.Sockaddr = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if addr.Addr().Is4() {
		sockaddr = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	fd, err := bind(sockaddr, false, 1)
	if err != nil {
		return nil, err
	}
	g, err := Adopt([]int{fd}, nil)
	if err != nil {
		unix.Close(fd)
	}
	return g, err
}

// Adopt makes a group of sockets that are in use, which are all that are bound to the address, and of
// the descriptors of generations among them. After an error the sockets are as before.
func Adopt(fds []int, generations map[int]int) (*Group, error) {
	g := &Group{FDs: slices.Clone(fds)}
	g.settle(generations)
	if len(fds) > 1 {
		g.FDs = order(g.FDs, filter(g.Places, g.Newest))
		g.settle(generations)
	}
	for _, fd := range fds {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt SO_REUSEPORT", err)
		}
	}
	// The second socket makes the group, to which a filter can be attached.
	if err := g.grow(); err != nil {
		return nil, err
	}
	if err := g.attach(); err != nil {
		unix.Close(g.FDs[len(fds)])
		return nil, err
	}
	return g, nil
}

// settle gives generations the places of their descriptors. The newest is the last generation's.
func (g *Group) settle(generations map[int]int) {
	g.Places = map[int]int{}
	for _, generation := range slices.Sorted(maps.Keys(generations)) {
		g.Newest = slices.Index(g.FDs, generations[generation])
		g.Places[generation] = g.Newest
	}
}

// grow adds a socket to the group.
func (g *Group) grow() error {
	addr, err := unix.Getsockname(g.FDs[0])
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	only6, _ := unix.GetsockoptInt(g.FDs[0], unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	fd, err := bind(addr, true, only6)
	if err != nil {
		return fmt.Errorf("one more socket: %w", err)
	}
	g.FDs = append(g.FDs, fd)
	return nil
}

// bind binds a socket, which stays in blocking mode. If it is shared, it joins the group that is
// bound to the address.
func bind(addr unix.Sockaddr, shared bool, only6 int) (int, error) {
	family := unix.AF_INET
	if _, ok := addr.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only6)
	}
	if err == nil && shared {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, addr)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// empty drops the packets that wait in a socket.
func empty(fd int) {
	const most = 1 << 17 // packets, more than a queue holds
	for range most {
		if _, _, err := unix.Recvfrom(fd, nil, unix.MSG_DONTWAIT|unix.MSG_TRUNC); err != nil && err != unix.EINTR {
			return
		}
	}
}
