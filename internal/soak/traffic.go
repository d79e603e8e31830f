//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// clients is how many ask at once: a quarter each on TCP and on the unix socket, with kept
// connections and without. With --steer-udp half as many ask there as well.
const clients = 16

// traffic starts the clients; the returned function stops them and returns what they got.
func (s *harness) traffic() (stop func() load.Result) {
	address, _ := os.ReadFile(s.path("address")) // it was there when the first worker was
	ctx, cancel := context.WithCancel(context.Background())
	results := make(chan load.Result)
	running := 4
	for _, target := range []load.Target{{Network: "tcp", Address: string(address)}, {Network: "unix", Address: s.path("sock")}} {
		target.Pause, target.Timeout = 2*time.Millisecond, patience
		for _, keep := range []bool{true, false} {
			go func() { results <- load.Run(ctx, target, clients/4, keep) }()
		}
	}
	if s.variant.name == "steer" {
		running += clients / 2
		for range clients / 2 {
			go func() { results <- steered(ctx, s.port) }()
		}
	}
	return func() load.Result {
		cancel()
		var total load.Result
		for range running {
			total.Add(<-results)
		}
		return total
	}
}

// steered makes connections as a client of QUIC does (internal/soak/worker has the packets), each
// from a port of its own, until the context ends.
func steered(ctx context.Context, address string) (result load.Result) {
	for ctx.Err() == nil {
		conn, err := net.Dial("udp", address)
		if err != nil {
			result.Add(load.Result{Sent: 1, Lost: 1, Errors: map[string]int{err.Error(): 1}})
			return result
		}
		id := make([]byte, 8)
		rand.Read(id)
		packet := slices.Concat([]byte{0xc0, 0, 0, 0, 1, 8}, id, []byte{0})
		for number := byte(0); ; number++ {
			begin := time.Now()
			answer, err := exchange(conn, packet)
			if err != nil {
				result.Add(load.Result{Sent: 1, Lost: 1, Errors: map[string]int{"steered: " + err.Error(): 1}})
				break
			}
			result.Add(load.Result{Sent: 1, Answered: 1, Slowest: time.Since(begin)})
			if packet[0]&1 != 0 {
				break
			}
			packet = slices.Concat([]byte{0x40}, answer[:11], []byte{number + 1})
			if number == 20 || ctx.Err() != nil {
				packet[0]++
			}
			time.Sleep(2 * time.Millisecond)
		}
		conn.Close()
	}
	return result
}

// exchange sends a packet, and sends it again while there is no answer, as QUIC does.
func exchange(conn net.Conn, packet []byte) ([]byte, error) {
	answer, want := make([]byte, 100), packet[len(packet)-9:] // ID and number
	for range 20 {
		if _, err := conn.Write(packet); err != nil {
			return nil, err
		}
		for conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); ; {
			n, err := conn.Read(answer)
			if n == 12 && bytes.Equal(answer[3:n], want) {
				return answer, nil
			}
			if err != nil {
				break
			}
		}
	}
	return nil, errors.New("no answer")
}
