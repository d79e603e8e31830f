package orphan

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/start-server/start-server/internal/portspec"
	"github.com/start-server/start-server/internal/socket"
)

// An Address is a port or a path, the address of a socket to look for.
type Address struct {
	Key   string           // as in SERVER_STARTER_PORT
	Path  string           // of a unix socket; "" for a port
	Ports []netip.AddrPort // a second one is for sockets that accept IPv4 as well
	UDP   bool
}

// PortAddress returns the address of a port, and resolves its host. For a bare port it includes the
// unspecified IPv6 address, which other implementations of start_server bind for both families.
func PortAddress(p portspec.Port) (Address, error) {
	addr, err := socket.Resolve(p)
	if err != nil {
		return Address{}, err
	}
	a := Address{Key: p.Key, Ports: []netip.AddrPort{addr}, UDP: p.UDP}
	if p.Host == "" {
		a.Ports = append(a.Ports, netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port()))
	}
	return a, nil
}

// PathAddress returns the address of a unix socket.
func PathAddress(path string) Address { return Address{Key: path, Path: path} }

// namedBy reports whether a value of SERVER_STARTER_PORT names the address.
func (a Address) namedBy(value string) bool {
	for entry := range strings.SplitSeq(value, ";") {
		equals := strings.LastIndexByte(entry, '=')
		if equals >= 0 && (entry[:equals] == a.Key || a.isKey(entry[:equals])) {
			return true
		}
	}
	return false
}

// isKey reports whether the key means this address, possibly in another spelling. Port 0 may have
// become any port.
func (a Address) isKey(key string) bool {
	if a.Path != "" {
		return path.Base(key) == path.Base(a.Path) // the inode has identified the file
	}
	p, err := portspec.Parse(key)
	if err != nil || p.Port != 0 && !slices.ContainsFunc(a.Ports, func(own netip.AddrPort) bool { return int(own.Port()) == p.Port }) {
		return false
	}
	other, err := PortAddress(p)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(other.Ports, func(b netip.AddrPort) bool {
		return slices.ContainsFunc(a.Ports, func(own netip.AddrPort) bool {
			return b == own || b.Port() == 0 && b.Addr() == own.Addr()
		})
	})
}
