// Command loss counts the requests that are lost while one generation of a server is swapped for the next, again and
// again, under clients that never rest. It does so with a worker that uses package graceful and with one that does what
// every textbook says, http.Server.Shutdown, and prints both. It fails if package graceful has lost any.
//
//	go run ./internal/loss [-start-server BINARY] [-clients 16] [-swaps 30] [-answers 200] [-pause 0]
//
// Without a binary it builds ./cmd/start_server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// plan is what the command line asks for.
type plan struct {
	startServer string
	clients     int
	swaps       int
	answers     int64
	pause       time.Duration
}

// round is a line of the table.
type round struct {
	worker    string // "graceful" or "plain"
	network   string // "tcp" or "unix"
	keepAlive bool
}

func main() {
	var p plan
	worker := flag.String("worker", "", "be a worker: graceful or plain (for start_server)")
	flag.StringVar(&p.startServer, "start-server", "", "the start_server to use; default: build ./cmd/start_server")
	flag.IntVar(&p.clients, "clients", 16, "how many ask at a time")
	flag.IntVar(&p.swaps, "swaps", 30, "how many swaps in each round")
	flag.Int64Var(&p.answers, "answers", 200, "how many answers each generation gives before it is swapped")
	flag.DurationVar(&p.pause, "pause", 0, "how long a client rests between requests")
	flag.Parse()

	run := func() error { return measureAll(p) }
	if *worker != "" {
		run = func() error { return serve(*worker) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "loss:", err)
		os.Exit(1)
	}
}

// measureAll prints the table.
func measureAll(p plan) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "loss")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if p.startServer == "" {
		if p.startServer, err = build(ctx, dir); err != nil {
			return err
		}
	}
	fmt.Printf("%d clients, %d swaps with --interval=0 in each round, %s\n\n", p.clients, p.swaps, filepath.Base(p.startServer))
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "worker\tnetwork\tconnections\trequests\tanswered\tlost\tslowest\treasons")
	lost := 0
	for _, network := range []string{"tcp", "unix"} {
		for _, keepAlive := range []bool{false, true} {
			for _, worker := range []string{"graceful", "plain"} {
				r := round{worker, network, keepAlive}
				result, err := r.measure(ctx, p, dir)
				if err != nil {
					return fmt.Errorf("%s worker, %s: %w", worker, network, err)
				}
				r.print(table, result)
				if worker == "graceful" {
					lost += result.Lost
				}
			}
		}
	}
	if lost > 0 {
		return fmt.Errorf("package graceful has lost %d requests", lost)
	}
	return nil
}

func build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "start_server")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/start_server")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build ./cmd/start_server: %w", err)
	}
	return binary, nil
}

func (r round) print(w io.Writer, result load.Result) {
	connections := "one a request"
	if r.keepAlive {
		connections = "kept alive"
	}
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(result.Errors)) {
		reasons = append(reasons, fmt.Sprintf("%d × %s", result.Errors[reason], reason))
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d ms\t%s\n", r.worker, r.network, connections,
		result.Sent, result.Answered, result.Lost, result.Slowest.Milliseconds(), strings.Join(reasons, ", "))
}

// measure plays one round.
func (r round) measure(ctx context.Context, p plan, dir string) (load.Result, error) {
	d, err := start(ctx, p.startServer, r, dir)
	if err != nil {
		return load.Result{}, err
	}
	generation, address, err := d.serving(ctx, 0)
	if err != nil {
		return load.Result{}, errors.Join(err, d.end())
	}
	t := newTally(p.answers)
	target := load.Target{Network: r.network, Address: address, Check: t.check, Pause: p.pause}
	loading, unload := context.WithCancel(ctx)
	loaded := make(chan load.Result)
	go func() { loaded <- load.Run(loading, target, p.clients, r.keepAlive) }()

	for range p.swaps {
		if err = t.wait(ctx, generation); err != nil {
			break
		}
		if generation, err = d.swap(ctx, generation); err != nil {
			break
		}
	}
	if err == nil {
		err = t.wait(ctx, generation)
	}
	unload()
	result := <-loaded
	return result, errors.Join(err, d.end())
}
