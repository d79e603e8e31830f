package main

import (
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/load"
	"github.com/start-server/start-server/internal/scripttest"
)

// TestStopFirstUnderLoad restarts a server that locks a file, ten times. Every request is sent
// once, and answered.
func TestStopFirstUnderLoad(t *testing.T) {
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip(err)
	}
	bin := t.TempDir()
	scripttest.Build(t, bin, ".", "../../testdata/hello")
	s := startProgram(t, bin, []string{"--stop-first", "--interval=0"},
		"sh", "-c", "exec 9>lock; flock -n 9 || exit 1; exec "+filepath.Join(bin, "hello"))
	var answered atomic.Int64
	count := func(*http.Response, []byte) error { answered.Add(1); return nil }
	target := load.Target{Network: "unix", Address: filepath.Join(s.dir, "app.sock"), Pause: time.Millisecond, Check: count}
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan load.Result)
	go func() { results <- load.Run(ctx, target, 8, false) }()
	for generation := 2; generation <= 11; generation++ {
		before := answered.Load()
		s.await("100 answers", func() bool { return answered.Load() >= before+100 })
		s.signal(unix.SIGHUP)
		s.await("the next generation", func() bool { return s.workers()[generation] > 0 })
	}
	cancel()
	result := <-results
	t.Logf("%d requests, %d lost, the slowest took %v", result.Sent, result.Lost, result.Slowest)
	if result.Lost > 0 || result.Sent == 0 {
		t.Errorf("%d of %d requests were lost: %v", result.Lost, result.Sent, result.Errors)
	}
	if n := s.count("worker "); n > 0 {
		t.Errorf("%d workers found the file locked", n)
	}
	s.signal(unix.SIGTERM)
	if state := <-s.ended; !state.Success() {
		t.Errorf("it ended with %v", state)
	}
	s.ended = nil
}
