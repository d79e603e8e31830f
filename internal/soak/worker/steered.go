package main

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/start-server/start-server/listener"
)

// steered answers packets as a server of QUIC does. The first packet of a connection has a long
// header with an ID of 8 bytes that the client has chosen; the answer is the prefix of this
// generation and that ID, with which the client's further packets begin behind their first byte. A
// last byte numbers the packets, and the first one of the last packet is odd.
type steered struct {
	conn net.PacketConn
	open atomic.Int64 // connections
	last atomic.Int64 // when the last packet came, in Unix nanoseconds
}

func (s *steered) serve() error {
	prefix, _ := listener.ConnectionIDPrefix()
	connections, packet := map[string]bool{}, make([]byte, 100)
	for {
		n, from, err := s.conn.ReadFrom(packet)
		if err != nil {
			return err
		}
		s.last.Store(time.Now().UnixNano())
		var rest []byte // ID and number
		switch {
		case n == 15 && packet[0]&0x80 != 0:
			rest = packet[6:n]
			connections[string(rest[:8])] = true
		case n == 13 && [3]byte(packet[1:4]) == prefix:
			if rest = packet[4:n]; packet[0]&1 != 0 {
				delete(connections, string(rest[:8]))
			}
		default: // another generation's: the client sends it again
			continue
		}
		s.open.Store(int64(len(connections)))
		if _, err := s.conn.WriteTo(append(prefix[:], rest...), from); err != nil {
			return err
		}
	}
}

// stop returns when the clients have ended their connections and the queue is empty. It does not
// wait for connections that another worker's death has cut.
func (s *steered) stop(context.Context) error {
	const quiet, most = 50 * time.Millisecond, 5 * time.Second
	for begin := time.Now(); time.Since(begin) < most; time.Sleep(5 * time.Millisecond) {
		last := max(s.last.Load(), begin.UnixNano())
		if s.open.Load() == 0 && time.Now().UnixNano()-last > quiet.Nanoseconds() {
			break
		}
	}
	return s.conn.Close()
}
