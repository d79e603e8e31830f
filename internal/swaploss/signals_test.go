package main

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/load"
)

var startServer string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-worker" {
		main()
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "swaploss")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chdir("../.."); err != nil { // build takes a package of the module
		panic(err)
	}
	if startServer, err = build(context.Background(), dir); err != nil {
		panic(err)
	}
	return m.Run()
}

// slow is a worker that has requests under way whenever it is signalled.
var slow = round{worker: "graceful", network: "tcp", protocol: http1, delay: 300 * time.Millisecond}

// begin starts the worker and loads it until the returned function is called, which fails the test
// if a request was lost.
func (r round) begin(t *testing.T, binary string, clients int) (*daemon, serving, func()) {
	t.Helper()
	d, err := start(t.Context(), binary, r, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	first, err := d.serving(t.Context(), 0)
	if err != nil {
		t.Fatal(err, d.end())
	}
	ctx, cancel := context.WithCancel(t.Context())
	loaded := make(chan load.Result, 1)
	go func() {
		loaded <- load.Run(ctx, load.Target{Network: r.network, Address: first.address}, clients, true)
	}()
	return d, first, func() {
		t.Helper()
		cancel()
		result := <-loaded
		if result.Lost > 0 || result.Sent < clients {
			t.Errorf("lost %d of %d: %v", result.Lost, result.Sent, result.Errors)
		}
		t.Logf("%d requests, %d lost", result.Sent, result.Lost)
	}
}

// asked waits until n requests are under way.
func (d *daemon) asked(t *testing.T, n int) {
	t.Helper()
	err := d.await(t.Context(), func(line string) bool {
		if line == askedLine {
			n--
		}
		return n == 0
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A worker may get TERM any number of times, and before start_server sends it.
func TestRepeatedTERM(t *testing.T) {
	const clients = 8
	d, current, finish := slow.begin(t, startServer, clients)
	for range 3 {
		d.asked(t, clients)
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		next, err := d.serving(t.Context(), current.generation)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			syscall.Kill(current.pid, syscall.SIGTERM)
		}
		current = next
	}
	finish()
	if err := d.end(); err != nil {
		t.Error(err)
	}
}

func TestSignalOnHUP(t *testing.T) { testSignalOnHUP(t, startServer) }

// testSignalOnHUP swaps workers by signals other than TERM. One that dies of it loses requests, and
// one that does not take it does not end.
func testSignalOnHUP(t *testing.T, binary string) {
	const clients = 8
	for _, sig := range []unix.Signal{unix.SIGQUIT, unix.SIGINT, unix.SIGUSR1} {
		worker := slow
		worker.signal = sig
		d, current, finish := worker.begin(t, binary, clients)
		generation := current.generation
		for range 2 {
			d.asked(t, clients)
			var err error
			if generation, err = d.swap(t.Context(), generation); err != nil {
				t.Fatal(sig, err, d.end())
			}
		}
		finish()
		if err := d.end(); err != nil {
			t.Error(sig, err)
		}
	}
}

// A service manager, or a shell, may send TERM to start_server and the workers at once, and then
// start_server sends it to the workers again.
func TestTERMToTheProcessGroup(t *testing.T) {
	const clients = 50
	d, _, finish := slow.begin(t, startServer, clients)
	d.asked(t, clients) // and none is answered for 300 ms
	if err := syscall.Kill(-d.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	finish() // before any answer has come
	if err := d.end(); err != nil {
		t.Error(err)
	}
}
