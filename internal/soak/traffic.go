//go:build linux

package main

import (
	"context"
	"os"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// clients is how many ask at once: a quarter each on TCP and on the unix socket, with kept
// connections and without.
const clients = 16

// traffic starts the clients; the returned function stops them and returns what they got.
func (s *harness) traffic() (stop func() load.Result) {
	address, _ := os.ReadFile(s.path("address")) // it was there when the first worker was
	ctx, cancel := context.WithCancel(context.Background())
	results := make(chan load.Result, 4)
	for _, target := range []load.Target{{Network: "tcp", Address: string(address)}, {Network: "unix", Address: s.path("sock")}} {
		target.Pause, target.Timeout = 2*time.Millisecond, patience
		for _, keep := range []bool{true, false} {
			go func() { results <- load.Run(ctx, target, clients/4, keep) }()
		}
	}
	return func() load.Result {
		cancel()
		var total load.Result
		for range 4 {
			total.Add(<-results)
		}
		return total
	}
}
