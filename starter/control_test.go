package starter

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/pidfile"
	"github.com/start-server/start-server/internal/process"
	"github.com/start-server/start-server/internal/status"
	"github.com/start-server/start-server/internal/supervisor"
)

// These tests are not parallel: the test process is the superdaemon, and receives its signals.

// fakeSuperdaemon is a superdaemon whose actions a test controls.
type fakeSuperdaemon struct {
	t       *testing.T
	control Control
	file    *pidfile.File
}

func newFakeSuperdaemon(t *testing.T, workers ...status.Worker) *fakeSuperdaemon {
	t.Helper()
	dir := t.TempDir()
	p := &fakeSuperdaemon{t: t, control: Control{PIDFile: filepath.Join(dir, "pid"), StatusFile: filepath.Join(dir, "status")}}
	file, err := pidfile.Create(p.control.PIDFile, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p.file = file
	p.workers(workers...)
	return p
}

func (p *fakeSuperdaemon) workers(workers ...status.Worker) {
	if err := status.Write(p.control.StatusFile, workers); err != nil {
		p.t.Error(err)
	}
}

func (p *fakeSuperdaemon) end() {
	if err := p.file.Remove(); err != nil {
		p.t.Error(err)
	}
}

// on calls a function when the signal is received.
func (p *fakeSuperdaemon) on(sig syscall.Signal, do func()) {
	received := make(chan os.Signal, 1)
	signal.Notify(received, sig)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-received
		do()
	}()
	p.t.Cleanup(func() {
		signal.Stop(received)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			p.t.Errorf("%v was not received", sig)
		}
	})
}

func TestStop(t *testing.T) {
	p := newFakeSuperdaemon(t)
	p.on(syscall.SIGTERM, p.end)
	var output bytes.Buffer
	if err := p.control.Stop(t.Context(), &output); err != nil {
		t.Error(err)
	}
	if want := fmt.Sprintf("stop_server (pid:%d) stopping now (pid:%[1]d)...\n", os.Getpid()); output.String() != want {
		t.Errorf("output %q, want %q", output.String(), want)
	}
}

// terminal records what is written to it, and calls next when it contains the awaited text.
type terminal struct {
	bytes.Buffer
	awaited string
	next    func()
}

func (t *terminal) Write(p []byte) (int, error) {
	n, err := t.Buffer.Write(p)
	if next := t.next; next != nil && strings.Contains(t.String(), t.awaited) {
		t.next = nil
		next()
	}
	return n, err
}

func TestRestartControl(t *testing.T) {
	p := newFakeSuperdaemon(t, status.Worker{Generation: 3, PID: 30})
	var shown terminal
	p.control.Progress = &shown
	p.on(syscall.SIGHUP, func() {})
	shown.awaited, shown.next = "waiting for generation 4", func() {
		w := status.Worker{Generation: 5, PID: sleeper(t)}
		p.workers(status.Worker{Generation: 3, PID: 30}, w)
		shown.awaited, shown.next = "generation 5 has started", func() { p.workers(w) }
	}
	if err := p.control.Restart(context.Background()); err != nil {
		t.Error(err)
	}
	p.end()
	for _, want := range []string{"waiting for generation 4 or later to start", "generation 5 has started, waiting for old workers to finish:30"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("the terminal shows %q; want %q", shown.String(), want)
		}
	}
}

// sleeper starts a process and returns its pid.
func sleeper(t *testing.T) int {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return 0
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// TestRestartAfterEarlierStart checks that Restart waits for the requested start, not for one that
// was under way before.
func TestRestartAfterEarlierStart(t *testing.T) {
	if _, ok := process.CurrentTick(); !ok {
		t.Skip("the start time of a process is not known on this system")
	}
	p := newFakeSuperdaemon(t, status.Worker{Generation: 1, PID: 10})
	earlier := status.Worker{Generation: 2, PID: sleeper(t)}
	var shown terminal
	p.control.Progress = &shown
	requested := false
	p.on(syscall.SIGHUP, func() { p.workers(earlier) })
	shown.awaited, shown.next = "waiting for generation 3 or later to start", func() {
		requested = true
		p.workers(status.Worker{Generation: 3, PID: sleeper(t)})
	}
	if err := p.control.Restart(t.Context()); err != nil || !requested {
		t.Errorf("Restart returned %v; the requested start has begun: %v", err, requested)
	}
	p.end()
}

func TestRestartGivenUp(t *testing.T) {
	p := newFakeSuperdaemon(t, status.Worker{Generation: 1, PID: 10})
	p.control.StatusJSON = filepath.Join(t.TempDir(), "json")
	write := func(number int, result supervisor.Result) {
		r := status.Report{LastRestart: &status.Restart{
			Number: number, Result: string(result), Generation: 9, Attempts: 3, Reason: "exit status 4"}}
		if err := os.WriteFile(p.control.StatusJSON, r.Encode(), 0o644); err != nil {
			t.Error(err)
		}
	}
	write(6, supervisor.GivenUp) // an earlier one
	p.on(syscall.SIGHUP, func() { write(7, supervisor.GivenUp) })
	err := p.control.Restart(t.Context())
	if err == nil || err.Error() != "the restart was given up after 3 failed attempts: generation 9: exit status 4" {
		t.Error(err)
	}
	p.end()
}

// TestRestartGivenUpPublished is the same without StatusJSON. What is published only after the
// request, by another version after an upgrade, may be of an earlier restart.
func TestRestartGivenUpPublished(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("the status is published on Linux only")
	}
	var published status.Published
	t.Cleanup(published.Close) // after the signals were received
	var mu sync.Mutex
	publish := func(number int) {
		mu.Lock()
		defer mu.Unlock()
		published.Write(status.Report{
			Superdaemon: status.Superdaemon{PID: os.Getpid()},
			LastRestart: &status.Restart{Number: number, Result: string(supervisor.GivenUp), Generation: 9, Attempts: 3, Reason: "exit status 4"},
		}.Encode())
	}
	p := newFakeSuperdaemon(t, status.Worker{Generation: 1, PID: 10})
	p.on(syscall.SIGHUP, func() {
		publish(6)
		p.workers(status.Worker{Generation: 2, PID: sleeper(t)})
	})
	if err := p.control.Restart(t.Context()); err != nil {
		t.Error(err)
	}
	p.on(syscall.SIGHUP, func() { publish(7) })
	err := p.control.Restart(t.Context())
	if err == nil || err.Error() != "the restart was given up after 3 failed attempts: generation 9: exit status 4" {
		t.Error(err)
	}
	p.end()
}

// TestProgress checks that the line is written again only if it changes, once a second for the time.
func TestProgress(t *testing.T) {
	t.Parallel()
	var to bytes.Buffer
	p := &progress{to: &to, since: time.Now()}
	for range 20 {
		p.show("waiting")
	}
	p.show("still waiting")
	p.since = p.since.Add(-time.Minute)
	p.show("still waiting")
	const want = "\r\x1b[Kwaiting (0 secs)\r\x1b[Kstill waiting (0 secs)\r\x1b[Kstill waiting (60 secs)"
	if to.String() != want {
		t.Errorf("written: %q, want %q", to.String(), want)
	}
}

func TestRestartTimeout(t *testing.T) {
	p := newFakeSuperdaemon(t, status.Worker{Generation: 1, PID: 10})
	p.control.Timeout = 10 * time.Millisecond
	p.on(syscall.SIGHUP, func() {})
	err := p.control.Restart(context.Background())
	if err == nil || !strings.Contains(err.Error(), "the restart is not over after 0 secs: waiting for generation 2 or later to start") {
		t.Error(err)
	}
	p.end()
}

func TestRestartSuperdaemonEnds(t *testing.T) {
	p := newFakeSuperdaemon(t, status.Worker{Generation: 1, PID: 10})
	p.on(syscall.SIGHUP, p.end)
	err := p.control.Restart(context.Background())
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the superdaemon %d has ended before the restart was over", os.Getpid())) {
		t.Error(err)
	}
}

func TestControlErrors(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	if err := os.WriteFile(stale, fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
		t.Fatal(err)
	}
	p := newFakeSuperdaemon(t)
	defer p.end()
	if err := os.Remove(p.control.StatusFile); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		control Control
		stop    string
		restart string
	}{
		{Control{}, "--stop option requires --pid-file", "--restart option requires --pid-file and --status-file"},
		{Control{PIDFile: dir + "/none", StatusFile: "s"}, "does not exist; is start_server running?", "is start_server running?"},
		{Control{PIDFile: stale, StatusFile: "s"}, "is not locked: no superdaemon is running", "is not locked: no superdaemon is running"},
		{p.control, "", "read status file: open " + p.control.StatusFile},
	} {
		if test.stop != "" { // otherwise Stop would succeed
			if err := test.control.Stop(t.Context(), os.Stderr); err == nil || !strings.Contains(err.Error(), test.stop) {
				t.Errorf("%+v: stop: %v does not contain %q", test.control, err, test.stop)
			}
		}
		if err := test.control.Restart(context.Background()); err == nil || !strings.Contains(err.Error(), test.restart) {
			t.Errorf("%+v: restart: %v does not contain %q", test.control, err, test.restart)
		}
	}
}
