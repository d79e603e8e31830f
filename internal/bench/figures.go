//go:build linux

package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/bench/eventlog"
	"github.com/start-server/start-server/internal/measure"
)

// workers are the programs that the candidates run.
type workers struct {
	stamp, web string
}

// figure is something that can be measured, and a row of the table.
type figure struct {
	key     string // what -run selects it by
	title   string
	unit    unit
	rounds  int    // how often at most
	kinds   []kind // of the candidates that can
	measure func(candidate, workers) ([]float64, error)
}

var (
	superdaemons = []kind{full, classic, statusless}
	starters     = append(superdaemons, bare)
	everything   = append(starters, none)
)

// figures lists them all, in the order of the table.
func figures(idle time.Duration) []figure {
	list := []figure{
		{"start", "start: exec to the worker's main", milliseconds, 100, everything, startWith(1)},
		{"hup", "HUP to the new worker's main", milliseconds, 20, starters, hupToMain},
		{"term", "HUP to the old worker's TERM, after `--interval=1`", milliseconds, 3, superdaemons, hupToTerm()},
		{"term", "the same with readiness, `--ready-timeout`", milliseconds, 10, []kind{full}, hupToTerm("--ready-timeout=60")},
		{"deploy", "slowest request while an application that loads for 3 s is deployed twice (Starlet)", milliseconds, 1, superdaemons, deploy()},
		{"deploy", "the same with `READY=1`, `--ready-timeout`", milliseconds, 1, []kind{full}, deploy("--ready-timeout=60")},
		{"deploy", "the same with `--accept-timeout`, the server unchanged", milliseconds, 1, []kind{full}, deploy("--accept-timeout=60")},
		{"memory", "anonymous memory when idle", megabytes, 5, starters, memoryAfter(0)},
		{"generations", "the same after 1,000 generations", megabytes, 1, starters, memoryAfter(1000)},
		{"cpu", "processor time for a generation", milliseconds, 5, starters, cpuFor(40)},
		{"idle", fmt.Sprintf("system calls in %v of idleness", idle), plain, 1, starters, syscallsIn(idle)},
		{"ports", "start with 200 ports", milliseconds, 20, superdaemons, startWith(200)},
		{"ports", "start with 1,000 ports", milliseconds, 10, superdaemons, startWith(1000)},
		{"lingering", "HUP to the new worker's main, with 100 old workers", milliseconds, 1, superdaemons, hupAmong(100)},
		{"lingering", "the same with 1,000 old workers", milliseconds, 1, superdaemons, hupAmong(1000)},
		{"upgrade", "upgrade: USR2 to the line that the new version serves", milliseconds, 10, []kind{full}, upgrade},
	}
	for _, processes := range []int{1, 100, 1000} {
		title := fmt.Sprintf("recovery: exec after kill -9 to the next worker's main, more processes: %d", processes)
		list = append(list, figure{"recovery", title, milliseconds, 5, []kind{full}, recoverAmong(processes)})
	}
	return append(list,
		figure{"requests", "requests per second", plain, 3, []kind{full, classic, statusless, none}, requests},
		figure{"size", "size of the binary, stripped and static", megabytes, 1, starters, size},
	)
}

// startWith times a start with this number of ports. Each has an address of its own out of
// 127.0.0.0/8 and a port number that the kernel picks, so nothing is in the way of anything.
func startWith(ports int) func(candidate, workers) ([]float64, error) {
	var options []string
	for i := range ports {
		options = append(options, fmt.Sprintf("--port=127.1.%d.%d:0", i/250, i%250+1))
	}
	return func(c candidate, w workers) ([]float64, error) {
		s, err := start(c.path, options, []string{w.stamp})
		if err != nil {
			return nil, err
		}
		defer s.stop()
		generation := 1
		if c.kind == none {
			generation = 0
		}
		e, err := s.await(eventlog.Entry{Name: "main", Generation: generation})
		if err != nil {
			return nil, err
		}
		return []float64{float64(e[0].At - s.began)}, nil
	}
}

// begin starts a superdaemon and waits until its first worker has started.
func begin(c candidate, w workers, options []string, env ...string) (*superdaemon, error) {
	if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "--port=") }) {
		options = append([]string{"--port=127.0.0.1:0"}, options...)
	}
	if c.kind == full || c.kind == classic {
		options = append([]string{statusOption}, options...)
	}
	s, err := start(c.path, options, []string{w.stamp}, env...)
	if err != nil {
		return nil, err
	}
	if _, err = s.await(eventlog.Entry{Name: "main", Generation: 1}); err == nil {
		err = s.settle(1, 1)
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func hupToMain(c candidate, w workers) ([]float64, error) {
	s, err := begin(c, w, []string{"--interval=0"})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	var samples []float64
	for generation := 1; generation <= 3; generation++ {
		hup, begin, _, err := s.swap(generation, 1)
		if err != nil {
			return nil, err
		}
		samples = append(samples, float64(begin-hup))
		time.Sleep(20 * time.Millisecond) // each HUP finds the superdaemon idle
	}
	return samples, nil
}

func hupToTerm(options ...string) func(candidate, workers) ([]float64, error) {
	return func(c candidate, w workers) ([]float64, error) {
		s, err := begin(c, w, options)
		if err != nil {
			return nil, err
		}
		defer s.stop()
		hup, _, term, err := s.swap(1, 1)
		return []float64{float64(term - hup)}, err
	}
}

// generate makes n generations, one right after the other.
func (s *superdaemon) generate(n int) error {
	for generation := 1; generation <= n; generation++ {
		if _, _, _, err := s.swap(generation, 1); err != nil {
			return err
		}
	}
	return nil
}

func memoryAfter(generations int) func(candidate, workers) ([]float64, error) {
	return func(c candidate, w workers) ([]float64, error) {
		s, err := begin(c, w, []string{"--interval=0"})
		if err != nil {
			return nil, err
		}
		defer s.stop()
		if err := s.generate(generations); err != nil {
			return nil, err
		}
		bytes, err := s.idleMemory()
		return []float64{bytes}, err
	}
}

// cpuFor measures the mean of this number of generations.
func cpuFor(generations int) func(candidate, workers) ([]float64, error) {
	return func(c candidate, w workers) ([]float64, error) {
		s, err := begin(c, w, []string{"--interval=0"})
		if err != nil {
			return nil, err
		}
		defer s.stop()
		before, err := s.cpu()
		if err != nil {
			return nil, err
		}
		if err := s.generate(generations); err != nil {
			return nil, err
		}
		after, err := s.cpu()
		return []float64{float64(after-before) / float64(generations)}, err
	}
}

// hupAmong times a swap while this number of old workers, which do not end at TERM, is left.
func hupAmong(lingering int) func(candidate, workers) ([]float64, error) {
	return func(c candidate, w workers) ([]float64, error) {
		s, err := begin(c, w, []string{"--interval=0"}, "STAMP_LINGER=1")
		if err != nil {
			return nil, err
		}
		defer s.stop()
		var samples []float64
		for generation := 1; generation <= lingering+5; generation++ {
			hup, begin, _, err := s.swap(generation, generation+1)
			if err != nil {
				return nil, err
			}
			if generation > lingering {
				samples = append(samples, float64(begin-hup))
			}
		}
		return samples, nil
	}
}

// upgrade times a USR2, which executes the same binary again.
func upgrade(c candidate, w workers) ([]float64, error) {
	s, err := begin(c, w, nil)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	began := eventlog.Now()
	if err := s.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return nil, err
	}
	for !strings.Contains(string(s.log()), "start_server upgraded") {
		if eventlog.Now()-began > patience {
			return nil, fmt.Errorf("USR2: %w in %v\n%s", errNothing, patience, s.log())
		}
		time.Sleep(100 * time.Microsecond)
	}
	return []float64{float64(eventlog.Now() - began)}, nil
}

// recoverAmong kills the superdaemon and times the start of another one, which finds the worker
// among this number of processes, takes the socket over from it and starts the next generation.
func recoverAmong(processes int) func(candidate, workers) ([]float64, error) {
	return func(c candidate, w workers) ([]float64, error) {
		end, err := bystanders(processes)
		defer end()
		if err != nil {
			return nil, err
		}
		port, err := measure.FreeAddress()
		if err != nil {
			return nil, err
		}
		s, err := begin(c, w, []string{"--port=" + port})
		if err != nil {
			return nil, err
		}
		defer s.stop()
		if err := s.kill(); err != nil {
			return nil, err
		}
		if err := s.execute(); err != nil {
			return nil, err
		}
		e, err := s.await(eventlog.Entry{Name: "main", Generation: 2})
		if err != nil {
			return nil, err
		}
		return []float64{float64(e[0].At - s.began)}, s.settle(2, 1)
	}
}

// bystanders starts n processes that hold none of the sockets.
func bystanders(n int) (end func(), err error) {
	var list []*exec.Cmd
	for range n {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err = cmd.Start(); err != nil {
			break
		}
		list = append(list, cmd)
	}
	return func() {
		for _, cmd := range list {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}, err
}

// syscallsIn counts what a superdaemon does while there is nothing to do.
func syscallsIn(idle time.Duration) func(candidate, workers) ([]float64, error) {
	return func(c candidate, w workers) ([]float64, error) {
		s, err := begin(c, w, nil)
		if err != nil {
			return nil, err
		}
		defer s.stop()
		if err := s.generate(1); err != nil { // what is done once is done now
			return nil, err
		}
		time.Sleep(3 * time.Second) // with time to tidy up
		out := filepath.Join(s.dir, "strace")
		strace := exec.Command("timeout", "--signal=INT", strconv.FormatFloat(idle.Seconds(), 'f', 3, 64),
			"strace", "-f", "-qq", "-o", out, "-p", strconv.Itoa(s.cmd.Process.Pid))
		if text, err := strace.CombinedOutput(); err != nil && strace.ProcessState.ExitCode() != 124 {
			return nil, fmt.Errorf("strace: %w: %s", err, text)
		}
		text, err := os.ReadFile(out)
		return []float64{float64(len(completed(string(text))))}, err
	}
}

// completed are the lines of strace's output that are neither what a thread was in the middle of
// when strace came, nor what it is in the middle of when strace goes.
func completed(trace string) []string {
	return slices.DeleteFunc(slices.Collect(strings.Lines(trace)), func(line string) bool {
		return strings.Contains(line, "detached ...>") || strings.Contains(line, "unfinished ...>")
	})
}

// size is that of the candidate's file. It is an error if it needs a dynamic linker; a script has
// no size of its own.
func size(c candidate, _ workers) ([]float64, error) {
	file, err := elf.Open(c.path)
	if err != nil {
		return nil, nil
	}
	defer file.Close()
	if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return nil, fmt.Errorf("%s is not static", c.path)
	}
	info, err := os.Stat(c.path)
	if err != nil {
		return nil, err
	}
	return []float64{float64(info.Size())}, nil
}
