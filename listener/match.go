package listener

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Listen returns the stream socket that start_server bound to the address or, if the program does
// not run under start_server (SERVER_STARTER_PORT is not set), what [net.Listen] returns. Network
// and address are those of net.Listen.
//
// A socket is the wanted one if its entry in SERVER_STARTER_PORT has this address to the letter,
// else if it is bound to it: a socket bound to port 8080 of all addresses answers to ":8080",
// "0.0.0.0:8080" and "localhost:8080". If the operator confines the server to one address, that is
// respected: a socket on 127.0.0.1:8080 answers to ":8080" too, if no other fits better. Of several
// that fit equally well the first is taken. A unix socket is found by its path, or by another path
// that leads to the same file.
//
// Under start_server an address that was not passed is an error that lists what was. Binding it
// instead would make every later deploy fail with "address already in use".
//
// Sockets of systemd's socket activation (LISTEN_FDS, LISTEN_PID) count the same if
// SERVER_STARTER_PORT is not set.
func Listen(network, address string) (net.Listener, error) {
	if !passed() {
		return net.Listen(network, address)
	}
	switch network {
	case "tcp", "tcp4", "tcp6", "unix", "unixpacket":
	default:
		return nil, fmt.Errorf("listen %s %s: %w", network, address, net.UnknownNetworkError(network))
	}
	target, err := find(network, address)
	if err != nil {
		return nil, fmt.Errorf("listen %s %s: %w", network, address, err)
	}
	return listen(target)
}

// ListenPacket is like [Listen], for datagram sockets and with [net.ListenPacket].
func ListenPacket(network, address string) (net.PacketConn, error) {
	if !passed() {
		return net.ListenPacket(network, address)
	}
	switch network {
	case "udp", "udp4", "udp6", "unixgram":
	default:
		return nil, fmt.Errorf("listen %s %s: %w", network, address, net.UnknownNetworkError(network))
	}
	target, err := find(network, address)
	if err != nil {
		return nil, fmt.Errorf("listen %s %s: %w", network, address, err)
	}
	return listenPacket(target)
}

// candidate is a socket that was passed, as the variable names it and as the system knows it.
type candidate struct {
	target Listener
	socket socket
}

// find chooses among what was passed.
func find(network, address string) (Listener, error) {
	targets, err := inherited()
	if err != nil && err != ErrNoListeningTarget {
		return nil, err
	}
	var candidates []candidate
	for _, target := range targets {
		if s, err := inspect(target.Fd()); err == nil && s.serves(network) {
			candidates = append(candidates, candidate{target, s})
		}
	}
	for _, c := range candidates {
		entry := c.target.String()
		if entry[:strings.LastIndexByte(entry, '=')] == address {
			return c.target, nil
		}
	}
	rank, err := ranking(network, address)
	if err != nil {
		return nil, err
	}
	best, found := 0, Listener(nil)
	for _, c := range candidates {
		if r := rank(c); r > best {
			best, found = r, c.target
		}
	}
	if found == nil {
		by := "start_server"
		if !IsUnderStartServer() {
			by = "the service manager"
		}
		return nil, fmt.Errorf("not passed by %s, which passed %s", by, describe(targets))
	}
	return found, nil
}

// ranking returns how well a socket fits the address: the more the better, 0 not at all.
func ranking(network, address string) (func(candidate) int, error) {
	if strings.HasPrefix(network, "unix") {
		return func(c candidate) int { return rankPath(c, address) }, nil
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.LookupPort(network, service)
	if err != nil {
		return nil, err
	}
	wanted := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	if host != "" {
		wanted, err = net.DefaultResolver.LookupNetIP(context.Background(), "ip", host)
		if err != nil {
			return nil, err
		}
	}
	return func(c candidate) int {
		best := 0
		for _, addr := range wanted {
			best = max(best, rankAddr(c.socket, netip.AddrPortFrom(addr.Unmap(), uint16(port))))
		}
		return best
	}, nil
}

// rankAddr prefers the same address to one that includes the wanted one, and that to one that is
// included in it.
func rankAddr(s socket, wanted netip.AddrPort) int {
	if s.addr.Port() != wanted.Port() {
		return 0
	}
	switch addr := wanted.Addr(); {
	case addr == s.addr.Addr():
		return 3
	case !s.reaches(addr):
		return 0
	case s.addr.Addr().IsUnspecified():
		return 2
	case addr.IsUnspecified():
		return 1
	}
	return 0
}

// rankPath compares with the path as given and as bound. The superdaemon may have bound a relative
// path elsewhere.
func rankPath(c candidate, wanted string) int {
	bound := c.socket.path
	if bound == "" {
		return 0
	}
	if l, ok := c.target.(UnixListener); ok && filepath.Clean(l.Path) == filepath.Clean(wanted) {
		return 3
	}
	if filepath.Clean(bound) == filepath.Clean(wanted) {
		return 2
	}
	there, err := os.Stat(bound)
	if err != nil || !filepath.IsAbs(bound) {
		return 0
	}
	if here, err := os.Stat(wanted); err == nil && os.SameFile(here, there) {
		return 1
	}
	return 0
}

// describe lists the sockets with what the system knows of them.
func describe(targets List) string {
	if len(targets) == 0 {
		return "nothing"
	}
	var words []string
	for _, target := range targets {
		what, err := inspect(target.Fd())
		if err != nil {
			words = append(words, fmt.Sprintf("%q (%v)", target, err))
			continue
		}
		words = append(words, fmt.Sprintf("%q (%v)", target, what))
	}
	return strings.Join(words, ", ")
}
