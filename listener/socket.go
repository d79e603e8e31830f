package listener

import (
	"net/netip"
	"strings"
)

// socket is what the system knows of a descriptor.
type socket struct {
	network   string         // as package net calls it: tcp, udp, unix, unixgram, unixpacket
	addr      netip.AddrPort // of tcp and udp
	path      string         // of the others; empty if it is not bound
	dual      bool           // bound to IPv6 and reached by IPv4 as well
	listening bool
}

func (s socket) packet() bool {
	return s.network == "udp" || s.network == "unixgram"
}

func (s socket) String() string {
	if strings.HasPrefix(s.network, "unix") {
		return strings.TrimSpace(s.network + " " + s.path)
	}
	return s.network + " " + s.addr.String()
}

// serves reports whether the socket is of the network, as for net.Listen.
func (s socket) serves(network string) bool {
	switch network {
	case s.network:
		return true
	case s.network + "4":
		return s.addr.Addr().Is4() || s.dual
	case s.network + "6":
		return s.addr.Addr().Is6()
	}
	return false
}

// reaches reports whether a socket bound to it can be reached by an address of that family.
func (s socket) reaches(addr netip.Addr) bool {
	return s.addr.Addr().Is4() == addr.Is4() || s.dual && addr.Is4()
}
