//go:build linux

package examples

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// patience is how long an answer may take.
const patience = 10 * time.Second

// client sends one request after the other, each once.
type client interface {
	ask(context.Context) error
	close()
}

// tally is a line of the table.
type tally struct {
	example, clients string
	sent, lost       int
	slowest          time.Duration // answer
	reasons          map[string]int
}

var (
	tableLock sync.Mutex
	table     []tally
)

func printTable() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "\n%d swaps\t\tsent\tlost\tslowest\treasons\n", *swaps)
	for _, line := range table {
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(line.reasons)) {
			reasons = append(reasons, fmt.Sprintf("%d × %s", line.reasons[reason], reason))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d ms\t%s\n", line.example, line.clients, line.sent, line.lost, line.slowest.Milliseconds(), strings.Join(reasons, ", "))
	}
}

// kinds are clients that load a server at the same time.
type kinds map[string]func() client

// swapUnderLoad swaps a server while clients of each kind ask, and fails if a request was lost.
func swapUnderLoad(t *testing.T, d *superdaemon, clientsOf kinds) {
	ctx, cancel := context.WithCancel(context.Background())
	lines := make(chan tally)
	for _, kind := range slices.Sorted(maps.Keys(clientsOf)) {
		go func() { lines <- load(ctx, tally{example: t.Name(), clients: kind}, clientsOf[kind]) }()
	}
	for range *swaps {
		time.Sleep(100 * time.Millisecond) // each generation serves for a while
		d.swap()
	}
	cancel()
	for range clientsOf {
		(<-lines).record(t)
	}
}

// record adds the line to the table, and fails the test if a request was lost.
func (line tally) record(t *testing.T) {
	t.Helper()
	if line.lost > 0 || line.sent == 0 {
		t.Errorf("%s: lost %d of %d: %v", line.clients, line.lost, line.sent, line.reasons)
	}
	line.add()
}

func (line tally) add() {
	tableLock.Lock()
	defer tableLock.Unlock()
	table = append(table, line)
}

// load lets clients ask until the context ends. Requests under way are finished.
func load(ctx context.Context, line tally, newClient func() client) tally {
	var mu sync.Mutex
	line.reasons = make(map[string]int)
	var running sync.WaitGroup
	for range *clients {
		running.Go(func() {
			c := newClient()
			defer c.close()
			for ctx.Err() == nil {
				begin := time.Now()
				asking, cancel := context.WithTimeout(context.Background(), patience)
				err := c.ask(asking)
				cancel()
				mu.Lock()
				line.sent++
				line.slowest = max(line.slowest, time.Since(begin))
				if err != nil {
					line.lost++
					line.reasons[err.Error()]++
				}
				mu.Unlock()
				if err != nil {
					time.Sleep(10 * time.Millisecond) // a server that is gone is not counted a million times
				}
			}
		})
	}
	running.Wait()
	return line
}
