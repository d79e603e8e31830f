//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/bench/eventlog"
	"github.com/start-server/start-server/internal/measure"
)

// patience is how long anything may take. It is reached only if something hangs.
const patience = 20 * time.Second

// superdaemon is a start_server under measurement.
type superdaemon struct {
	args     []string
	env      []string
	cmd      *exec.Cmd
	dir      string
	events   <-chan eventlog.Entry
	close    func()        // ends events
	began    time.Duration // when it was executed, on CLOCK_MONOTONIC
	finished chan error
	missed   int   // HUPs that nothing came of
	groups   []int // process groups that stop ends
	status   bool  // it writes the status file
}

var errNothing = errors.New("nothing")

// memory is a file system in memory, as /run is, where status files are kept; "" for where
// temporary files are.
var memory = func() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}()

// start executes program with the options, to run the worker; "" is the worker alone. Its files are
// in a directory of their own.
func start(program string, options, worker []string, env ...string) (*superdaemon, error) {
	s := &superdaemon{args: worker, status: slices.Contains(options, statusOption)}
	if program != "" {
		s.args = append(append([]string{program}, options...), append([]string{"--"}, worker...)...)
	}
	var err error
	if s.dir, err = os.MkdirTemp(memory, "bench"); err != nil {
		return nil, err
	}
	s.env = append(append(os.Environ(), eventlog.Variable+"="+filepath.Join(s.dir, "events")), env...)
	if s.events, s.close, err = eventlog.Open(filepath.Join(s.dir, "events")); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.execute(); err != nil {
		s.close()
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// execute starts the superdaemon, for the first time or after it was killed.
func (s *superdaemon) execute() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, finished := exec.Command(s.args[0], s.args[1:]...), make(chan error, 1)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = s.env, s.dir, log, log
	// So that no process is left: stop kills the group, and if this program ends in any way, the
	// superdaemon gets TERM.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	s.began = eventlog.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { finished <- cmd.Wait() }()
	s.cmd, s.finished, s.groups = cmd, finished, append(s.groups, cmd.Process.Pid)
	return nil
}

// kill ends the superdaemon, and no worker, by KILL.
func (s *superdaemon) kill() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	<-s.finished
	return nil
}

// await returns when each of the wanted events was reported, in whatever order, and drops all
// others. PID and At of want are filled in.
func (s *superdaemon) await(want ...eventlog.Entry) ([]eventlog.Entry, error) {
	return want, s.awaitFor(patience, want)
}

// awaitFor is await with a patience of its own; what was reported is filled in even if something is
// missing.
func (s *superdaemon) awaitFor(patience time.Duration, want []eventlog.Entry) error {
	timeout := time.After(patience)
	for slices.ContainsFunc(want, func(w eventlog.Entry) bool { return w.At == 0 }) {
		select {
		case e := <-s.events:
			for i, w := range want {
				if w.At == 0 && w.Name == e.Name && w.Generation == e.Generation {
					want[i] = e
				}
			}
		case err := <-s.finished:
			s.finished <- err
			return fmt.Errorf("wait for %v: the superdaemon ended: %w\n%s", want, err, s.log())
		case <-timeout:
			return fmt.Errorf("wait for %v: %w in %v\n%s", want, errNothing, patience, s.log())
		}
	}
	return nil
}

func (s *superdaemon) log() []byte {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return text[max(0, len(text)-2000):]
}

// hup sends HUP and returns when that was.
func (s *superdaemon) hup() (time.Duration, error) {
	at := eventlog.Now()
	return at, s.cmd.Process.Signal(syscall.SIGHUP)
}

// statusOption makes settle possible.
const statusOption = "--status-file=status"

// settle waits until the status file holds this number of workers, the newest of the given
// generation: then no start is under way. Without a status file it returns at once.
func (s *superdaemon) settle(generation, workers int) error {
	if !s.status {
		return nil
	}
	newest := regexp.MustCompile(`(?m)^` + strconv.Itoa(generation) + `:`)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(s.dir, "status"))
		if err == nil && newest.Match(text) && bytes.Count(text, []byte("\n")) == workers {
			return nil
		}
	}
	return fmt.Errorf("status file: never held generation %d and %d workers\n%s", generation, workers, s.log())
}

// swap is one HUP from beginning to end: from generation old to the next one, with this number of
// workers when it is over. It returns when HUP was sent, when the new worker's main began and when
// the old worker got TERM.
func (s *superdaemon) swap(old, workers int) (hup, begin, term time.Duration, err error) {
	// With --interval=0 the old worker may get its TERM before the new one's main begins.
	want := []eventlog.Entry{{Name: "main", Generation: old + 1}, {Name: "TERM", Generation: old}}
	if hup, err = s.hup(); err != nil {
		return
	}
	err = s.awaitFor(3*time.Second, want)
	if errors.Is(err, errNothing) && want[0].At == 0 {
		// Perl's misses a HUP that arrives just before it goes to wait, until something else wakes it.
		s.missed++
		s.cmd.Process.Signal(syscall.SIGALRM)
		err = s.awaitFor(patience, want)
	}
	if err != nil {
		return
	}
	begin, term = want[0].At, want[1].At
	err = s.settle(old+1, workers)
	return
}

// stop ends the superdaemon and everything that it started.
func (s *superdaemon) stop() {
	if s.missed > 0 {
		fmt.Fprintf(os.Stderr, "bench: %s: missed %d HUPs\n", s.cmd.Path, s.missed)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.finished:
	case <-time.After(2 * time.Second): // there are workers that linger
	}
	for _, group := range s.groups {
		syscall.Kill(-group, syscall.SIGKILL)
	}
	s.close()
	os.RemoveAll(s.dir)
}

// idleMemory is the memory when it has not changed for three seconds.
func (s *superdaemon) idleMemory() (float64, error) {
	last, err := measure.AnonymousMemory(s.cmd.Process.Pid)
	deadline := time.Now().Add(patience)
	for since := time.Now(); err == nil && time.Since(since) < 3*time.Second && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
		var now int
		if now, err = measure.AnonymousMemory(s.cmd.Process.Pid); now != last {
			last, since = now, time.Now()
		}
	}
	return float64(last), err
}

// cpu is the time that the process itself, not its children, has spent on a processor.
// /proc/PID/stat counts in ticks of 10 ms; schedstat has nanoseconds.
func (s *superdaemon) cpu() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	if err != nil || files == nil {
		return 0, fmt.Errorf("read /proc/%d/task/*/schedstat: %w", s.cmd.Process.Pid, errors.Join(err, os.ErrNotExist))
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", file, err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// address is where the web worker listens.
func (s *superdaemon) address() (string, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "address"))
	return string(text), err
}
