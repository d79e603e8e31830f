package steer

import (
	"encoding/binary"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// order sorts the sockets of a group, which are all that it has, by their indexes. After sockets of a
// superdaemon that was killed have closed, these are not known, and nothing shows them. So the filter
// of the group passes packets of this process to an index, and a filter of each socket drops them,
// which the kernel counts, before a worker can read them. Other packets go where usual has them go.
// If that does not work, the order stays.
func order(fds []int, usual []instruction) []int {
	var secret [8]byte // linking crypto/rand would add a tenth of a millisecond to every start
	if _, err := unix.Getrandom(secret[:], 0); err != nil {
		return fds
	}
	const udpHeader = 8
	drop := append(matching(secret, udpHeader, 0), instruction{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1})
	p := &unix.SockFprog{Len: uint16(len(drop)), Filter: &drop[0]}
	for _, fd := range fds {
		if unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, p) != nil {
			return fds
		}
		defer func() { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) }()
	}
	var ordered []int
	for index := range fds {
		if attach(fds[0], append(matching(secret, 0, index), usual...)) != nil {
			return fds
		}
		fd := probe(fds, secret[:])
		if fd < 0 || slices.Contains(ordered, fd) {
			return fds
		}
		ordered = append(ordered, fd)
	}
	return ordered
}

// matching returns the beginning of a program that returns result for a packet which has the secret
// at this offset.
func matching(secret [8]byte, offset, result int) []instruction {
	length := uint32(offset + len(secret))
	return []instruction{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: length, Jf: 5},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(secret[:]), Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset) + 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(secret[4:]), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: uint32(result)},
	}
}

// probe sends packets to the group and returns the socket that has dropped as many, or -1.
func probe(fds []int, packet []byte) int {
	const count, patience = 8, 100 * time.Millisecond
	before := make([]uint32, len(fds))
	for i, fd := range fds {
		before[i] = drops(fd)
	}
	if !send(fds[0], packet, count) {
		return -1
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for i, fd := range fds {
			if drops(fd)-before[i] >= count {
				return fd
			}
		}
	}
	return -1
}

// send sends packets to the address of a socket.
func send(to int, packet []byte, count int) bool {
	addr, err := unix.Getsockname(to)
	if err != nil {
		return false
	}
	family := unix.AF_INET
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		if a.Addr == [4]byte{} {
			a.Addr = [4]byte{127, 0, 0, 1}
		}
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
		if a.Addr == [16]byte{} {
			a.Addr[15] = 1
		}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	for range count {
		if unix.Sendto(fd, packet, unix.MSG_DONTWAIT, addr) != nil {
			return false
		}
	}
	return true
}

// drops returns how many packets a socket has dropped: SK_MEMINFO_DROPS, the ninth number of
// SO_MEMINFO. Package unix has no getter for that; the ninth number of TCPInfo is Lost.
func drops(fd int) uint32 {
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_SOCKET, unix.SO_MEMINFO)
	if err != nil {
		return 0
	}
	return info.Lost
}
