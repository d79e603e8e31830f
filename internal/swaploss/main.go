// Command swaploss counts the requests that are lost while one generation of a server is replaced
// by the next, again and again, under clients that send one request after the other. It does so
// with a worker that uses package graceful and with one that calls http.Server.Shutdown, and prints
// both. It fails if package graceful has lost any.
//
//	go run ./internal/swaploss [-start-server BINARY] [-clients 16] [-swaps 30] [-answers 200] [-pause 0]
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

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/load"
)

// plan holds the options of the command line.
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
	protocol  string // "HTTP/1", or "HTTP/2" over TLS, or "h2c"
	keepAlive bool
	delay     time.Duration // how long the worker takes for an answer
	signal    unix.Signal   // that HUP sends to the old worker, if not TERM
}

// rounds returns all rounds, with the two workers next to each other.
func rounds() []round {
	var all []round
	for _, r := range []round{
		{network: "tcp", protocol: http1},
		{network: "tcp", protocol: http1, keepAlive: true},
		{network: "unix", protocol: http1},
		{network: "unix", protocol: http1, keepAlive: true},
		{network: "tcp", protocol: http2, keepAlive: true},
		{network: "tcp", protocol: h2c, keepAlive: true},
	} {
		for _, worker := range []string{"graceful", "plain"} {
			r.worker = worker
			all = append(all, r)
		}
	}
	return all
}

func main() {
	var p plan
	worker := flag.String("worker", "", "be a worker: graceful or plain (for start_server)")
	protocol := flag.String("protocol", http1, "what the worker speaks")
	delay := flag.Duration("delay", 0, "how long the worker takes for an answer")
	stop := flag.Int("signal", 0, "another signal that stops the worker")
	flag.StringVar(&p.startServer, "start-server", "", "the start_server to use; default: build ./cmd/start_server")
	flag.IntVar(&p.clients, "clients", 16, "how many ask at a time")
	flag.IntVar(&p.swaps, "swaps", 30, "how many swaps in each round")
	flag.Int64Var(&p.answers, "answers", 200, "how many answers each generation gives before it is swapped")
	flag.DurationVar(&p.pause, "pause", 0, "pause of a client between requests")
	flag.Parse()

	run := func() error { return measureAll(p) }
	if *worker != "" {
		run = func() error { return serve(*worker, *protocol, *delay, unix.Signal(*stop)) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "swaploss:", err)
		os.Exit(1)
	}
}

// measureAll measures all rounds and prints the table.
func measureAll(p plan) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "swaploss")
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
	fmt.Fprintln(table, "worker\tnetwork\tprotocol\tconnections\trequests\tanswered\tlost\tslowest\treasons")
	lost := 0
	for _, r := range rounds() {
		result, err := r.measure(ctx, p, dir)
		if err != nil {
			return fmt.Errorf("%s worker, %s, %s: %w", r.worker, r.network, r.protocol, err)
		}
		r.print(table, result)
		if r.worker == "graceful" {
			lost += result.Lost
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
	switch {
	case r.protocol != http1:
		connections = "shared"
	case r.keepAlive:
		connections = "kept alive"
	}
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(result.Errors)) {
		reasons = append(reasons, fmt.Sprintf("%d × %s", result.Errors[reason], reason))
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d ms\t%s\n", r.worker, r.network, r.protocol, connections,
		result.Sent, result.Answered, result.Lost, result.Slowest.Milliseconds(), strings.Join(reasons, ", "))
}

// measure measures one round.
func (r round) measure(ctx context.Context, p plan, dir string) (load.Result, error) {
	d, err := start(ctx, p.startServer, r, dir)
	if err != nil {
		return load.Result{}, err
	}
	first, err := d.serving(ctx, 0)
	if err != nil {
		return load.Result{}, errors.Join(err, d.end())
	}
	generation := first.generation
	t := newTally(p.answers)
	loading, unload := context.WithCancel(ctx)
	loaded := make(chan load.Result)
	go func() { loaded <- r.load(loading, p, first.address, t) }()

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

// load sends requests until the context ends.
func (r round) load(ctx context.Context, p plan, address string, t *tally) load.Result {
	if r.protocol != http1 {
		return loadHTTP2(ctx, r.protocol, address, p.clients, p.pause, t.check)
	}
	target := load.Target{Network: r.network, Address: address, Check: t.check, Pause: p.pause}
	return load.Run(ctx, target, p.clients, r.keepAlive)
}
