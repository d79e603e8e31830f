// Package portspec parses the values of --port: port, host:port, port=fd, host:port=fd, with a "u"
// before the port number for UDP, and brackets around an IPv6 address.
package portspec

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Port is one parsed --port value.
type Port struct {
	Key  string // as in SERVER_STARTER_PORT: "80", "127.0.0.1:80", "localhost:80", "[::1]:80"
	Host string // "" for any IPv4 address (0.0.0.0); IPv6 without brackets
	Port int    // 0 to 65535
	UDP  bool
	FD   int // descriptor asked for in the worker, -1 for none
}

// IPv6 reports whether the host is an IPv6 address.
func (p Port) IPv6() bool { return strings.Contains(p.Host, ":") }

// space is Perl's \s.
const space = "\t\n\v\f\r "

// Parse parses one --port value as Server::Starter 0.35 does. Every error quotes s. Errors here,
// and failures of the resolver there, are a missing host, a host that would break
// SERVER_STARTER_PORT, and a port or descriptor that is out of range.
func Parse(s string) (Port, error) {
	if t, ok := parseTail(s); ok {
		return port(s, "", t)
	}
	colon := strings.LastIndex(s, ":")
	t, ok := parseTail(s[colon+1:])
	if colon < 0 || !ok {
		return Port{}, fmt.Errorf("invalid ``port'' value: %q: neither port nor host:port", s)
	}
	host, err := parseHost(s[:colon])
	if err != nil {
		return Port{}, fmt.Errorf("invalid ``port'' value: %q: %w", s, err)
	}
	return port(s, host, t)
}

// tail is the part without the host: [u]number[=descriptor].
type tail struct {
	udp                bool
	number, descriptor string
}

func parseTail(s string) (t tail, ok bool) {
	s, t.udp = strings.CutPrefix(strings.Trim(s, space), "u")
	number, descriptor, hasFD := strings.Cut(s, "=")
	t.number, t.descriptor = strings.TrimRight(number, space), descriptor
	return t, digits(t.number) && (!hasFD || digits(descriptor))
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// parseHost removes the brackets. The original accepts one without the other.
func parseHost(s string) (string, error) {
	s = strings.TrimPrefix(strings.Trim(s, space), "[")
	host := strings.Trim(strings.TrimSuffix(s, "]"), space)
	return host, checkHost(host)
}

func port(s, host string, t tail) (Port, error) {
	p := Port{Key: t.number, Host: host, UDP: t.udp, FD: -1}
	if host != "" {
		p.Key = host + ":" + t.number
	}
	if p.IPv6() {
		p.Key = "[" + host + "]:" + t.number
	}
	n, err := strconv.ParseUint(t.number, 10, 16)
	if err != nil {
		return Port{}, fmt.Errorf("invalid ``port'' value: %q: port out of range (0 to 65535)", s)
	}
	p.Port = int(n)
	if t.descriptor != "" {
		n, err := strconv.ParseUint(t.descriptor, 10, 31)
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
			return fmt.Errorf("%q is not an IPv6 address", host)
		}
		return nil
	}
	// ";" and "=" are separators in SERVER_STARTER_PORT, and "/" begins a path there.
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(";=/[]", r) }
	if strings.ContainsFunc(host, odd) {
		return fmt.Errorf("%q is not a host name", host)
	}
	return nil
}
