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

// inodes returns the sockets that are bound to the address: that listen, or receive datagrams from anyone.
func (a Address) inodes() []uint64 {
	if a.Path != "" {
		return listeningAt(a.Path)
	}
	var found []uint64
	for _, addr := range a.Ports {
		table := "tcp"
		if a.UDP {
			table = "udp"
		}
		if addr.Addr().Is6() {
			table += "6"
		}
		text, err := os.ReadFile("/proc/net/" + table)
		if err == nil {
			found = append(found, bound(string(text), addr, a.UDP)...)
		}
	}
	return found
}

// bound reads lines like "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1234 ..." (proc_net_tcp(5)).
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

// hexAddress is an address as /proc/net has it: words of the network's bytes, printed as numbers of this machine.
func hexAddress(addr netip.AddrPort) string {
	var b strings.Builder
	for word := range slices.Chunk(addr.Addr().AsSlice(), 4) {
		fmt.Fprintf(&b, "%08X", binary.NativeEndian.Uint32(word))
	}
	fmt.Fprintf(&b, ":%04X", addr.Port())
	return b.String()
}

// listeningAt returns the socket that listens at a socket file. The name alone does not tell: it may be relative to any
// directory, and the file may have been replaced.
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

// listeningByName is for a kernel without unix_diag: an absolute path that only one socket has.
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

// A unixListener is a unix socket that listens at a file.
type unixListener struct {
	inode uint32 // of the socket
	file  uint32 // inode of the file, its lower half
	name  string // as it was bound
}

// unixListeners asks the kernel by sock_diag(7).
func unixListeners() ([]unixListener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, diagRequest(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var sockets []unixListener
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		for rest := buf[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			length := int(binary.NativeEndian.Uint32(rest))
			if length < unix.SizeofNlMsghdr || length > len(rest) {
				return nil, unix.EBADMSG
			}
			switch binary.NativeEndian.Uint16(rest[4:]) {
			case unix.NLMSG_DONE:
				return sockets, nil
			case unix.NLMSG_ERROR:
				return nil, unix.EOPNOTSUPP
			}
			if s, ok := parseDiag(rest[unix.SizeofNlMsghdr:length]); ok {
				sockets = append(sockets, s)
			}
			rest = rest[min((length+3)&^3, len(rest)):]
		}
	}
}

// diagRequest is a nlmsghdr and a unix_diag_req: every listening socket, with its name and its file.
func diagRequest() []byte {
	const (
		size             = unix.SizeofNlMsghdr + 24
		sockDiagByFamily = 20
		stateListen      = 1 << 10
		showName         = 1
		showVFS          = 2
	)
	native := binary.NativeEndian
	b := native.AppendUint32(nil, size)
	b = native.AppendUint16(b, sockDiagByFamily)
	b = native.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = native.AppendUint64(b, 0)                                    // sequence number, port
	b = append(b, unix.AF_UNIX, 0, 0, 0)                             // family, protocol, padding
	b = native.AppendUint32(b, stateListen)                          // states
	b = native.AppendUint32(b, 0)                                    // inode: any
	b = native.AppendUint32(b, showName|showVFS)                     // what to show
	return append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // cookie: any
}

// parseDiag reads a unix_diag_msg and its attributes. Sockets without a file are left out.
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
	for b = b[header:]; len(b) >= 4; {
		length := int(native.Uint16(b))
		if length < 4 || length > len(b) {
			return s, false
		}
		value := b[4:length]
		switch native.Uint16(b[2:]) {
		case attrName:
			s.name = strings.TrimRight(string(value), "\x00")
		case attrVFS:
			if len(value) >= 8 {
				s.file, ok = native.Uint32(value), true
			}
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return s, ok && s.name != ""
}
