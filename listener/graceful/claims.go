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

// listen opens the passed socket that addr names, or else those that are not taken, and takes them
// until release is called. It returns no listeners if the server is to listen on its own address,
// which [listener.Listen] refuses under start_server.
func (c *claims) listen(addr string) (listeners []net.Listener, release func(), err error) {
	all, err := listener.ListenAll()
	if errors.Is(err, listener.ErrNoListeningTarget) {
		return nil, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	named := ""
	if addr != "" {
		if l, err := listener.Listen("tcp", addr); err == nil {
			l.Close()
			if name := l.Addr().String(); slices.ContainsFunc(all, func(l net.Listener) bool { return l.Addr().String() == name }) {
				named = name
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, l := range all {
		name := l.Addr().String()
		if c.taken[name] || named != "" && name != named {
			l.Close()
			continue
		}
		listeners, names = append(listeners, l), append(names, name)
	}
	if listeners == nil {
		return nil, nil, fmt.Errorf("listen for the server with Addr %q: other servers of the process serve all sockets that were passed", addr)
	}
	for _, name := range names {
		c.taken[name] = true
	}
	return listeners, func() { c.release(names) }, nil
}

func (c *claims) release(names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(c.taken, name)
	}
}
