package listener

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

func parse(variable string) (List, error) {
	if variable == "" {
		return nil, ErrNoListeningTarget
	}
	var targets List
	for entry := range strings.SplitSeq(variable, ";") {
		target, err := parseEntry(entry)
		if err != nil {
			return nil, fmt.Errorf("read %s: entry %q: %w", ServerStarterEnvVarName, entry, err)
		}
		targets = append(targets, target)
	}
	return targets, nil
}

// parseEntry reads "key=descriptor". Paths may contain further equals signs.
func parseEntry(entry string) (Listener, error) {
	i := strings.LastIndexByte(entry, '=')
	if i < 0 {
		return nil, errors.New("no =descriptor at the end")
	}
	key, digits := entry[:i], entry[i+1:]
	if key == "" {
		return nil, errors.New("no address in front of the descriptor")
	}
	fd, err := strconv.ParseUint(digits, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("descriptor %q is not a number from 0 to %d", digits, math.MaxInt32)
	}
	host, digits, ok := splitPort(key)
	if !ok {
		return UnixListener{Path: key, fd: uintptr(fd), entry: entry}, nil
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %s is greater than %d", digits, math.MaxUint16)
	}
	return TCPListener{Addr: host, Port: int(port), fd: uintptr(fd), entry: entry}, nil
}

// splitPort takes apart a port, host:port or [IPv6]:port. Whatever is none of these is a path.
func splitPort(key string) (host, digits string, ok bool) {
	host, digits = "0.0.0.0", key
	if i := strings.LastIndexByte(key, ':'); i >= 0 {
		host, digits = key[:i], key[i+1:]
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", "", false
	}
	if !strings.Contains(host, ":") {
		return host, digits, isHostName(host)
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	addr, err := netip.ParseAddr(host)
	return host, digits, err == nil && isHostName(addr.Zone())
}

// isHostName reports whether s, which may be empty, has only letters, digits and what joins them.
func isHostName(s string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && !('0' <= c && c <= '9') && !strings.ContainsRune("-._", rune(c)) {
			return false
		}
	}
	return true
}
