package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/load"
	"github.com/start-server/start-server/internal/scripttest"
	"github.com/start-server/start-server/starter"
)

var upgrades = flag.Int("upgrades", 20, "how many upgrades the tests of upgrades do")

// service is a start_server that runs a worker.
type service struct {
	t       *testing.T
	dir     string
	pid     int
	ended   chan *os.ProcessState
	file    *os.File // its log
	log     string   // the part that was read
	counted map[string]counted
}

// counted is the number of lines with a prefix in the log up to an offset.
type counted struct{ lines, until int }

func startService(t *testing.T, bin string, options ...string) *service {
	t.Helper()
	options = append([]string{"--ready-timeout=60"}, options...)
	return startProgram(t, bin, options, filepath.Join(bin, "worker"), "--ready")
}

// startProgram returns when the program serves on app.sock.
func startProgram(t *testing.T, bin string, options []string, program ...string) *service {
	t.Helper()
	s := &service{t: t, dir: t.TempDir(), ended: make(chan *os.ProcessState, 1), log: "\n", counted: map[string]counted{}}
	args := slices.Concat([]string{"--path=app.sock", "--status-file=status"}, options, []string{"--"}, program)
	cmd := exec.Command(filepath.Join(bin, "start_server"), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	output, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if s.file, err = os.Open(output.Name()); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	go func() {
		_ = cmd.Wait()
		s.ended <- cmd.ProcessState
	}()
	t.Cleanup(s.cleanUp)
	s.await("a worker", func() bool { return len(s.workers()) == 1 })
	return s
}

// cleanUp kills the superdaemon and its workers.
func (s *service) cleanUp() {
	s.file.Close()
	if s.ended != nil {
		_ = unix.Kill(s.pid, unix.SIGKILL)
		<-s.ended
	}
	for _, pid := range s.workers() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// workers returns the pids in the status file by generation.
func (s *service) workers() map[int]int {
	text, _ := os.ReadFile(filepath.Join(s.dir, "status"))
	workers := map[int]int{}
	for line := range strings.Lines(string(text)) {
		var generation, pid int
		if _, err := fmt.Sscanf(line, "%d:%d", &generation, &pid); err == nil {
			workers[generation] = pid
		}
	}
	return workers
}

func (s *service) signal(sig syscall.Signal) {
	if err := unix.Kill(s.pid, sig); err != nil {
		s.t.Fatalf("send %v: %v", sig, err)
	}
}

// count returns how many lines of the log have the prefix.
func (s *service) count(prefix string) int {
	for buf := make([]byte, 64<<10); ; {
		n, _ := s.file.Read(buf)
		if n == 0 {
			break
		}
		s.log += string(buf[:n])
	}
	c, end := s.counted[prefix], strings.LastIndexByte(s.log, '\n')
	if end > c.until {
		c.lines, c.until = c.lines+strings.Count(s.log[c.until:end], "\n"+prefix), end
		s.counted[prefix] = c
	}
	return c.lines
}

// tail returns the end of the log, without the lines about USR1.
func (s *service) tail() string {
	lines := slices.DeleteFunc(strings.Split(s.log, "\n"), func(line string) bool { return line == "received USR1, ignored" })
	return strings.Join(lines[max(len(lines)-30, 0):], "\n")
}

func (s *service) await(what string, condition func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("no %s; log:\n%s", what, s.tail())
		}
		select {
		case state := <-s.ended:
			s.ended = nil
			s.t.Fatalf("no %s, start_server has ended: %v; log:\n%s", what, state, s.tail())
		default:
		}
	}
}

// waitSignals waits until every signal that was sent before has been acted on. Those that are
// pending are taken in random order, one at a time: one that is not taken twenty times in a row is
// lost.
func (s *service) waitSignals() {
	s.t.Helper()
	const ignored = "received USR1, ignored"
	for range 20 {
		seen := s.count(ignored)
		s.signal(syscall.SIGUSR1)
		s.await("log line about USR1", func() bool { return s.count(ignored) > seen })
	}
}

// waitIdle waits until only the newest worker is left and nothing is under way.
func (s *service) waitIdle() {
	s.t.Helper()
	alone := func() bool {
		workers := s.workers()
		return len(workers) == 1 && workers[s.count("starting new worker ")] > 0
	}
	for {
		s.await("single worker", alone)
		if s.waitSignals(); alone() {
			return
		}
	}
}

// deaths returns how often the log reports the death of a worker with this pid. Pids are reused.
func (s *service) deaths(pid int) int {
	return s.count(fmt.Sprintf("worker %d died", pid)) + s.count(fmt.Sprintf("old worker %d died", pid))
}

// waitUpgraded waits until the superdaemon has been upgraded this many times.
func (s *service) waitUpgraded(times int) {
	s.t.Helper()
	s.await("upgrade", func() bool { return s.count("start_server upgraded ") >= times })
}

// moment waits a random time, at most a little longer than the last upgrade took.
func moment(last time.Duration) {
	for until := time.Now().Add(rand.N(last + last/4 + time.Millisecond)); time.Now().Before(until); {
	}
}

func buildAll(t *testing.T) (bin string) {
	t.Helper()
	bin = t.TempDir()
	scripttest.Build(t, bin, ".", "../../testdata/worker")
	return bin
}

// TestUpgradeAmidHUPsAndDeaths sends a HUP at a random moment of each upgrade, and kills a worker
// at another one in every third. The superdaemon keeps running, notices every death, and acts on
// every HUP except those in the exec window.
func TestUpgradeAmidHUPsAndDeaths(t *testing.T) {
	s := startService(t, buildAll(t), "--log-file=| exec cat >>log", "--interval=0")
	sent, lost, killed, last := 0, 0, 0, 10*time.Millisecond
	for round := 1; round <= *upgrades; round++ {
		acted, victim, died := s.count("received HUP"), 0, 0
		began := time.Now()
		s.signal(syscall.SIGUSR2)
		if moment(last); round%3 == 0 {
			for _, victim = range s.workers() {
				died = s.deaths(victim)
				_ = unix.Kill(victim, unix.SIGKILL)
				killed++
			}
			moment(last)
		}
		s.signal(syscall.SIGHUP)
		sent++
		s.waitUpgraded(round)
		last = min(time.Since(began), time.Second)
		s.waitIdle()
		if s.count("received HUP") == acted {
			lost++
		}
		if victim > 0 && s.deaths(victim) != died+1 {
			t.Fatalf("the death of worker %d was not noticed:\n%s", victim, s.tail())
		}
	}
	t.Logf("%d upgrades, %d HUPs sent, %d of them lost in the window, %d workers killed", *upgrades, sent, lost, killed)
	if lost > sent/2 {
		t.Error("the window is longer than half of an upgrade")
	}
	s.signal(syscall.SIGTERM)
	if state := <-s.ended; !state.Success() {
		t.Errorf("start_server ended with %v", state)
	}
	s.ended = nil
	if children := s.count("starting new worker "); children != s.count("worker ")+s.count("old worker ") {
		t.Errorf("%d workers were started, but not as many have died:\n%s", children, s.tail())
	}
}

// TestUpgradeAmidStops sends a signal to stop at a random moment of an upgrade: it is acted on, or
// lost in the exec window. TERM and QUIT can also end the superdaemon, while the Go runtime of the
// upgraded one starts: then --stop stops the workers.
func TestUpgradeAmidStops(t *testing.T) {
	bin := buildAll(t)
	last := 10 * time.Millisecond
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT} {
		stopped, lost, ended := 0, 0, 0
		for range max(*upgrades/10, 1) {
			s := startService(t, bin, "--pid-file=pid")
			began := time.Now()
			s.signal(syscall.SIGUSR2)
			moment(last)
			s.signal(sig)
			state := s.waitEndOrUpgrade()
			switch last = min(time.Since(began), time.Second); {
			case state == nil:
				lost++
				s.signal(syscall.SIGTERM)
				state = <-s.ended
				s.ended = nil
			case state.Success():
				stopped++
			default:
				ended++
				s.stopLeft()
			}
			if !state.Success() && sig == syscall.SIGINT {
				t.Fatalf("%v ended start_server with %v:\n%s", sig, state, s.tail())
			}
			if workers := s.workers(); state.Success() && len(workers) > 0 {
				t.Fatalf("workers %v are left", workers)
			}
			s.cleanUp()
		}
		t.Logf("%v: stopped %d times, lost %d times, ended by the signal, and its workers stopped by --stop, %d times", sig, stopped, lost, ended)
	}
}

// stopLeft stops the workers of a superdaemon that has ended in an upgrade.
func (s *service) stopLeft() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	control := starter.Control{PIDFile: filepath.Join(s.dir, "pid"), StatusFile: filepath.Join(s.dir, "status")}
	if err := control.Stop(ctx, io.Discard); err != nil {
		s.count("")
		s.t.Fatalf("%v, workers %v are left:\n%s", err, s.workers(), s.tail())
	}
	if workers := s.workers(); len(workers) > 0 {
		s.t.Fatalf("workers %v are left", workers)
	}
}

// TestControlAmidUpgrades uses --restart and --stop at a random moment of an upgrade: none is lost
// in the exec window, and a stop leaves no worker, even if the superdaemon has ended in the
// upgrade.
func TestControlAmidUpgrades(t *testing.T) {
	bin := buildAll(t)
	last := 10 * time.Millisecond
	amid := func(s *service, do func(context.Context, starter.Control) error) {
		t.Helper()
		upgraded := s.count("start_server upgraded ")
		began := time.Now()
		s.signal(syscall.SIGUSR2)
		moment(last)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := do(ctx, starter.Control{PIDFile: s.dir + "/pid", StatusFile: s.dir + "/status"}); err != nil {
			s.count("")
			t.Fatalf("%v\n%s", err, s.tail())
		}
		if s.count("start_server upgraded ") > upgraded {
			last = min(time.Since(began), time.Second/10)
		}
	}
	restarts, stops := 0, 0
	for stops < max(*upgrades/10, 1) {
		s := startService(t, bin, "--pid-file=pid", "--interval=0")
		for range 9 {
			upgraded := s.count("start_server upgraded ")
			amid(s, func(ctx context.Context, c starter.Control) error { return c.Restart(ctx) })
			s.await("upgrade", func() bool { return s.count("start_server upgraded ") > upgraded })
			s.waitSignals()
			restarts++
		}
		worker := s.workers()[s.count("starting new worker ")]
		amid(s, func(ctx context.Context, c starter.Control) error {
			c.StatusFile = "" // --stop must not depend on it
			return c.Stop(ctx, io.Discard)
		})
		<-s.ended
		s.ended = nil
		stops++
		if unix.Kill(worker, 0) == nil {
			t.Fatalf("worker %d was left behind:\n%s", worker, s.tail())
		}
		s.cleanUp()
	}
	t.Logf("%d upgrades with a restart and %d with a stop", restarts, stops)
}

// waitEndOrUpgrade waits until the superdaemon has ended, and returns its state, or until it has
// been upgraded and keeps running, and returns nil.
func (s *service) waitEndOrUpgrade() *os.ProcessState {
	const ignored = "received USR1, ignored"
	asked := 0
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		select {
		case state := <-s.ended:
			s.ended = nil
			return state
		default:
		}
		if s.count("start_server upgraded ") == 0 || s.count("received ") > s.count("received USR") {
			continue
		}
		if answered := s.count(ignored); answered == 20 {
			return nil
		} else if answered == asked {
			_ = unix.Kill(s.pid, unix.SIGUSR1)
			asked++
		}
	}
	s.t.Fatalf("neither upgraded nor ended:\n%s", s.tail())
	return nil
}

// TestUpgradeUnderLoad upgrades the superdaemon again and again: no request is lost, the worker
// stays the same, and so do the descriptors. It logs the memory.
func TestUpgradeUnderLoad(t *testing.T) {
	s := startService(t, buildAll(t), "--pid-file=pid", "--log-file=| exec cat >>log")
	target := load.Target{Network: "unix", Address: filepath.Join(s.dir, "app.sock"), Pause: time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan load.Result)
	go func() { results <- load.Run(ctx, target, 4, false) }()
	worker := s.workers()[1]
	var descriptors []string
	memory := 0
	for round := 1; round <= max(*upgrades/10, 5); round++ {
		s.signal(syscall.SIGUSR2)
		s.waitUpgraded(round)
		s.waitSignals()
		if round == 1 {
			descriptors, memory = s.descriptors(), s.memory()
		}
	}
	cancel()
	result := <-results
	t.Logf("%d requests, %d lost; %d KiB of anonymous memory after the first upgrade, %d after all", result.Sent, result.Lost, memory, s.memory())
	if result.Lost > 0 || result.Sent == 0 {
		t.Errorf("%d of %d requests were lost: %v", result.Lost, result.Sent, result.Errors)
	}
	if s.workers()[1] != worker {
		t.Errorf("the worker was %d; now the workers are %v", worker, s.workers())
	}
	if diff := cmp.Diff(descriptors, s.descriptors()); diff != "" {
		t.Errorf("the descriptors differ (-after the first upgrade +after the last):\n%s", diff)
	}
	s.signal(syscall.SIGTERM)
	if state := <-s.ended; !state.Success() {
		t.Errorf("start_server ended with %v", state)
	}
	s.ended = nil
}

// descriptors returns the open files of the superdaemon, and marks those that its children inherit.
func (s *service) descriptors() (list []string) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil {
		s.t.Skip(err)
	}
	for _, entry := range entries {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", s.pid, entry.Name()))
		info, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", s.pid, entry.Name()))
		if err != nil || err2 != nil {
			continue
		}
		_, octal, _ := strings.Cut(string(info), "flags:\t")
		octal, _, _ = strings.Cut(octal, "\n")
		if flags, err := strconv.ParseInt(octal, 8, 64); err == nil && flags&unix.O_CLOEXEC == 0 {
			target += " inherited"
		}
		list = append(list, target)
	}
	slices.Sort(list)
	return list
}

// memory returns the anonymous memory of the superdaemon in KiB.
func (s *service) memory() (sum int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.pid))
	for line := range strings.Lines(string(text)) {
		if n, err := fmt.Sscanf(line, "Anonymous: %d kB", &sum); n == 1 && err == nil {
			return sum
		}
	}
	return 0
}
