// Package portspec reads the values of --port: port, host:port, port=fd, host:port=fd, with a "u" before the port number for
// UDP, and brackets around an IPv6 address.
package portspec

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Port is one --port value, taken apart.
type Port struct {
	Key  string // as it stands in SERVER_STARTER_PORT: "80", "127.0.0.1:80", "localhost:80", "[::1]:80"
	Host string // "" for any IPv4 address (0.0.0.0); IPv6 without brackets
	Port int    // 0 to 65535
	UDP  bool
	FD   int // wished descriptor in the worker, -1 where none
}

// IPv6 reports whether the host is an IPv6 address.
func (p Port) IPv6() bool { return strings.Contains(p.Host, ":") }

// The two patterns of Server::Starter 0.35. Perl's \s has the vertical tab, Go's has not.
var (
	space    = `[\t\n\v\f\r ]*`
	tail     = `(u?)([0-9]+)(?:` + space + `=([0-9]+))?` + space + `$`
	bare     = regexp.MustCompile(`^` + space + tail)
	withHost = regexp.MustCompile(`^` + space + `(?:\[` + space + `)?([^\]]*)` + space + `(?:\]` + space + `)?:` + space + tail)
)

// Parse reads one --port value as Server::Starter 0.35 does. What that hands to the resolver in vain (no host at all, a host that
// would break SERVER_STARTER_PORT) and a number that is too large for a port or a descriptor are errors; each quotes s.
func Parse(s string) (Port, error) {
	if m := bare.FindStringSubmatch(s); m != nil {
		return port(s, "", m[1], m[2], m[3])
	}
	m := withHost.FindStringSubmatch(s)
	if m == nil {
		return Port{}, fmt.Errorf("invalid ``port'' value: %q", s)
	}
	host := strings.Trim(m[1], "\t\n\v\f\r ")
	if err := checkHost(host); err != nil {
		return Port{}, fmt.Errorf("invalid ``port'' value: %q: %w", s, err)
	}
	return port(s, host, m[2], m[3], m[4])
}

func port(s, host, u, number, descriptor string) (Port, error) {
	p := Port{Key: number, Host: host, UDP: u != "", FD: -1}
	if host != "" {
		p.Key = host + ":" + number
	}
	if p.IPv6() {
		p.Key = "[" + host + "]:" + number
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return Port{}, fmt.Errorf("invalid ``port'' value: %q: port out of range (0 to 65535)", s)
	}
	p.Port = int(n)
	if descriptor != "" {
		n, err := strconv.ParseUint(descriptor, 10, 31)
		if err != nil {
			return Port{}, fmt.Errorf("invalid ``port'' value: %q: file descriptor out of range", s)
		}
		p.FD = int(n)
	}
	return p, nil
}

func checkHost(host string) error {
	if host == "" {
		return fmt.Errorf("no host before the colon")
	}
	if strings.Contains(host, ":") {
		if a, err := netip.ParseAddr(host); err != nil || a.Zone() != "" {
			return fmt.Errorf("%q is no IPv6 address", host)
		}
		return nil
	}
	// ";" and "=" are the separators of SERVER_STARTER_PORT, "/" begins a path there.
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(";=/[", r) }
	if strings.ContainsFunc(host, odd) {
		return fmt.Errorf("%q is no host name", host)
	}
	return nil
}
