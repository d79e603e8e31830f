package graceful

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/start-server/start-server/listener"
)

// claims are the passed sockets that the servers of this process serve, so that a site and its
// admin page do not answer on each other's sockets.
type claims struct {
	mu    sync.Mutex
	taken map[string]bool // by the address of the socket
}

var claimed = claims{taken: make(map[string]bool)}

// listen opens for each address the passed socket that it names. The first address that names none
// gets the sockets that are named by no other and not taken. They are taken until release is
// called. It returns nil listeners if none were passed.
func (c *claims) listen(addrs ...string) (listeners [][]net.Listener, release func(), err error) {
	listeners, release = make([][]net.Listener, len(addrs)), func() {}
	all, err := listener.ListenAll()
	if errors.Is(err, listener.ErrNoListeningTarget) {
		return listeners, release, nil
	}
	if err != nil {
		return nil, release, err
	}
	names := make([]string, len(addrs))
	for i, addr := range addrs {
		names[i] = named(all, addr)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var taken []string
	for _, l := range all {
		name := l.Addr().String()
		i := slices.Index(names, name)
		if i < 0 {
			i = slices.Index(names, "")
		}
		if i < 0 || c.taken[name] {
			l.Close()
			continue
		}
		listeners[i], taken = append(listeners[i], l), append(taken, name)
	}
	for i := range addrs {
		if listeners[i] != nil {
			continue
		}
		for _, l := range slices.Concat(listeners...) {
			l.Close()
		}
		what := "all sockets that were passed"
		if names[i] != "" {
			what = names[i]
		}
		return nil, release, fmt.Errorf("listen for the server with Addr %q: other servers of the process serve %s", addrs[i], what)
	}
	for _, name := range taken {
		c.taken[name] = true
	}
	return listeners, func() { c.release(taken) }, nil
}

// named returns the address of the socket that addr names, or nothing.
func named(all []net.Listener, addr string) string {
	if addr == "" {
		return ""
	}
	l, err := listener.Listen("tcp", addr)
	if err != nil {
		return ""
	}
	defer l.Close()
	name := l.Addr().String()
	if !slices.ContainsFunc(all, func(l net.Listener) bool { return l.Addr().String() == name }) {
		return ""
	}
	return name
}

func (c *claims) release(names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(c.taken, name)
	}
}
