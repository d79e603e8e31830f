package orphan

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// inodes returns the inodes of the sockets bound to the address that are listening or, for UDP, not
// connected.
func (a Address) inodes() []uint64 {
	if a.Path != "" {
		return listeningAt(a.Path)
	}
	var found []uint64
	for i, addr := range a.Ports {
		sockets, err := boundTo(addr, a.UDP)
		if err != nil {
			found = append(found, readTable(addr, a.UDP)...)
			continue
		}
		for _, s := range sockets {
			if i == 0 || !s.ipv6Only {
				found = append(found, s.inode)
			}
		}
	}
	return found
}

// A portSocket is a socket that is bound to a port.
type portSocket struct {
	inode    uint64
	ipv6Only bool
}

// boundTo returns the TCP sockets that listen on an address, or the UDP sockets that are bound to
// it and not connected, using sock_diag(7).
func boundTo(addr netip.AddrPort, udp bool) (sockets []portSocket, err error) {
	const (
		size        = 72 // of an inet_diag_msg
		portOffset  = 4
		addrOffset  = 8
		inodeOffset = 68
		attrV6Only  = 11
	)
	family := byte(unix.AF_INET)
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	protocol, state := byte(unix.IPPROTO_TCP), uint32(stateListen)
	if udp {
		protocol, state = unix.IPPROTO_UDP, stateClose
	}
	request := []byte{family, protocol, 0, 0} // inet_diag_req_v2
	request = binary.NativeEndian.AppendUint32(request, state)
	request = append(request, make([]byte, 48)...) // any address
	want := addr.Addr().AsSlice()
	err = dump(request, func(answer []byte) {
		if len(answer) >= size && answer[0] == family && binary.BigEndian.Uint16(answer[portOffset:]) == addr.Port() &&
			slices.Equal(answer[addrOffset:addrOffset+len(want)], want) {
			s := portSocket{inode: uint64(binary.NativeEndian.Uint32(answer[inodeOffset:]))}
			attributes(answer[size:], func(kind uint16, value []byte) {
				s.ipv6Only = s.ipv6Only || kind == attrV6Only && len(value) > 0 && value[0] != 0
			})
			sockets = append(sockets, s)
		}
	})
	return sockets, err
}

// readTable returns the inodes of the sockets bound to an address, from a table in /proc/net.
func readTable(addr netip.AddrPort, udp bool) []uint64 {
	table := "tcp"
	if udp {
		table = "udp"
	}
	if addr.Addr().Is6() {
		table += "6"
	}
	text, err := os.ReadFile("/proc/net/" + table)
	if err != nil {
		return nil
	}
	return bound(string(text), addr, udp)
}

// bound reads lines like "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000
// 0 0 1234 ..." (proc_net_tcp(5)).
func bound(table string, addr netip.AddrPort, udp bool) (inodes []uint64) {
	const listening = "0A"
	want := hexAddress(addr)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[1] != want || !udp && f[3] != listening || udp && strings.Trim(f[2], "0:") != "" {
			continue
		}
		if inode, err := strconv.ParseUint(f[9], 10, 64); err == nil && inode != 0 {
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// hexAddress returns an address in the form of /proc/net: 32-bit words in network byte order,
// printed as numbers of this machine.
func hexAddress(addr netip.AddrPort) string {
	var b strings.Builder
	for word := range slices.Chunk(addr.Addr().AsSlice(), 4) {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(word))
	}
	fmt.Fprintf(&b, ":%04X", addr.Port())
	return b.String()
}

// listeningAt returns the inode of the socket that listens on a socket file. Its name alone does
// not identify it: it may be relative to any directory, and the file may have been replaced.
func listeningAt(file string) []uint64 {
	var st unix.Stat_t
	if unix.Lstat(file, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil
	}
	sockets, err := unixListeners()
	if err != nil {
		return listeningByName(file)
	}
	var found []uint64
	for _, s := range sockets {
		if s.file == uint32(st.Ino) && path.Base(s.name) == path.Base(file) {
			found = append(found, uint64(s.inode))
		}
	}
	return found
}

// listeningByName is listeningAt for a kernel without unix_diag: it finds the socket by an absolute
// path that no other socket has.
func listeningByName(file string) []uint64 {
	const listens = 1 << 16
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil || !filepath.IsAbs(file) {
		return nil
	}
	var found []uint64
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 8) // Num RefCount Protocol Flags Type St Inode Path
		if len(f) < 8 {
			continue
		}
		inode, name, _ := strings.Cut(strings.TrimLeft(strings.Join(f[6:], " "), " "), " ")
		flags, err := strconv.ParseUint(f[3], 16, 64)
		number, err2 := strconv.ParseUint(inode, 10, 64)
		if err == nil && err2 == nil && flags&listens != 0 && name == file {
			found = append(found, number)
		}
	}
	if len(found) > 1 {
		return nil
	}
	return found
}

// A unixListener is a unix socket that listens on a file.
type unixListener struct {
	inode uint32 // of the socket
	file  uint32 // inode of the file, its lower half
	name  string // as it was bound
}

// unixListeners returns the unix sockets that listen, using sock_diag(7).
func unixListeners() (sockets []unixListener, err error) {
	const (
		showName = 1
		showVFS  = 2
	)
	native := binary.NativeEndian
	request := []byte{unix.AF_UNIX, 0, 0, 0} // unix_diag_req
	request = native.AppendUint32(request, stateListen)
	request = native.AppendUint32(request, 0) // inode: any
	request = native.AppendUint32(request, showName|showVFS)
	request = append(request, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // cookie: any
	err = dump(request, func(answer []byte) {
		if s, ok := parseDiag(answer); ok {
			sockets = append(sockets, s)
		}
	})
	return sockets, err
}

// parseDiag parses a unix_diag_msg and its attributes. It reports false for a socket without a
// file.
func parseDiag(b []byte) (s unixListener, ok bool) {
	const (
		header   = 16
		attrName = 0
		attrVFS  = 1
	)
	native := binary.NativeEndian
	if len(b) < header {
		return s, false
	}
	s.inode = native.Uint32(b[4:])
	attributes(b[header:], func(kind uint16, value []byte) {
		switch kind {
		case attrName:
			s.name = strings.TrimRight(string(value), "\x00")
		case attrVFS:
			if len(value) >= 8 {
				s.file, ok = native.Uint32(value), true
			}
		}
	})
	return s, ok && s.name != ""
}
