package socket

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/portspec"
)

// firstActivated is the number of the first descriptor passed by socket activation
// (SD_LISTEN_FDS_START, sd_listen_fds(3)).
const firstActivated = 3

// Inherit takes over the descriptors that a service manager has passed, which are count many from
// firstActivated up, if they are among the inherited ones. Their keys are the addresses that they
// are bound to. It skips a descriptor that is not a socket, with an error.
func Inherit(count int, inherited []int, names []string) (sockets []*Socket, errs []error) {
	for i := range count {
		fd := firstActivated + i
		if !slices.Contains(inherited, fd) {
			return sockets, append(errs, fmt.Errorf("take over descriptor %d of LISTEN_FDS=%d: not inherited", fd, count))
		}
		addr, err := unix.Getsockname(fd)
		if err != nil {
			errs = append(errs, fmt.Errorf("take over descriptor %d of LISTEN_FDS=%d: %w", fd, count, err))
			continue
		}
		unix.CloseOnExec(fd)
		s := &Socket{Key: addressKey(addr), FD: fd, RequestedFD: -1, Given: true}
		s.Name = FDName(s.Key)
		listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		s.Listening = err == nil && listens != 0
		if i < len(names) && names[i] != "" {
			s.Name = names[i]
		}
		sockets = append(sockets, s)
	}
	return sockets, errs
}

func addressKey(addr unix.Sockaddr) string {
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrUnix:
		return a.Name
	}
	return "unknown"
}

// IsPort reports whether the socket is bound to the address of a --port. A bare port matches any
// address, IPv6 included: service managers bind "80" that way.
func (s *Socket) IsPort(p portspec.Port) bool {
	kind, err := unix.GetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || (kind == unix.SOCK_DGRAM) != p.UDP {
		return false
	}
	addr, err := unix.Getsockname(s.FD)
	if err != nil {
		return false
	}
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		_, want, err := resolve(p)
		want4, ok := want.(*unix.SockaddrInet4)
		return err == nil && ok && a.Port == p.Port && a.Addr == want4.Addr
	case *unix.SockaddrInet6:
		if p.Host == "" {
			return a.Port == p.Port && a.Addr == [16]byte{}
		}
		_, want, err := resolve(p)
		want6, ok := want.(*unix.SockaddrInet6)
		return err == nil && ok && a.Port == p.Port && a.Addr == want6.Addr
	}
	return false
}

// IsPath reports whether the socket is bound to the path, in any spelling (/var/run/x and /run/x).
func (s *Socket) IsPath(path string) bool {
	addr, err := unix.Getsockname(s.FD)
	a, ok := addr.(*unix.SockaddrUnix)
	return err == nil && ok && samePath(a.Name, path)
}

// samePath reports whether two paths lead to the same file or, if it does not exist, to the same
// name in the same directory.
func samePath(a, b string) bool {
	if a == b {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil || errB == nil {
		return errA == nil && errB == nil && os.SameFile(infoA, infoB)
	}
	dirA, nameA := filepath.Split(a)
	dirB, nameB := filepath.Split(b)
	infoA, errA = os.Stat(cmp.Or(dirA, "."))
	infoB, errB = os.Stat(cmp.Or(dirB, "."))
	return errA == nil && errB == nil && os.SameFile(infoA, infoB) && nameA == nameB
}

// FDName returns a name for LISTEN_FDNAMES made from a key. Such a name is ASCII without colons and
// control characters, and at most 255 bytes long (sd_listen_fds(3)).
func FDName(key string) string {
	name := strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || r == ':' {
			return '_'
		}
		return r
	}, key)
	return name[:min(len(name), 255)]
}
