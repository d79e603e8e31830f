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
	"time"

	"github.com/start-server/start-server/internal/bench/eventlog"
)

// candidate is a binary that is measured, and a column of the table.
type candidate struct {
	name  string
	path  string // "" for the worker with nobody in between
	ready bool   // it knows --ready-timeout
}

// workers are the programs that the candidates run.
type workers struct {
	stamp, web string
}

// figure is something that can be measured, and a row of the table.
type figure struct {
	key       string // what -run selects it by
	title     string
	unit      unit
	rounds    int    // how often at most
	reference string // "" for Perl's
	bare      bool   // can be measured with nobody in between, too
	measure   func(candidate, workers) ([]float64, error)
}

const perl, nobody = "Perl", "no superdaemon"

// figures lists them all, in the order of the table.
func figures(idle time.Duration) []figure {
	return []figure{
		{key: "start", title: "start: exec to the worker's main", unit: milliseconds, rounds: 100, bare: true, measure: startWith(1)},
		{key: "hup", title: "HUP to the new worker's main", unit: milliseconds, rounds: 5, measure: hupToMain},
		{key: "term", title: "HUP to the old worker's TERM, `--ready-timeout` against the default second", unit: milliseconds, rounds: 5, measure: hupToTerm},
		{key: "memory", title: "anonymous memory at rest", unit: megabytes, rounds: 3, measure: memoryAfter(0)},
		{key: "generations", title: "anonymous memory at rest after 1,000 generations", unit: megabytes, rounds: 1, measure: memoryAfter(1000)},
		{key: "cpu", title: "processor time for 40 generations", unit: milliseconds, rounds: 5, measure: cpuFor(40)},
		{key: "idle", title: fmt.Sprintf("system calls in %v of idleness", idle), unit: plain, rounds: 1, measure: syscallsIn(idle)},
		{key: "ports", title: "start with 200 ports", unit: milliseconds, rounds: 20, measure: startWith(200)},
		{key: "ports", title: "start with 1,000 ports", unit: milliseconds, rounds: 5, measure: startWith(1000)},
		{key: "lingering", title: "HUP to the new worker's main, 100 old ones lingering", unit: milliseconds, rounds: 1, measure: hupAmong(100)},
		{key: "lingering", title: "the same, 200 lingering", unit: milliseconds, rounds: 1, measure: hupAmong(200)},
		{key: "requests", title: "requests per second", unit: plain, rounds: 5, reference: nobody, bare: true, measure: requests},
		{key: "size", title: "size of the binary, stripped and static", unit: megabytes, rounds: 1, measure: size},
	}
}

// startWith times the start with so many ports. Each has an address of its own out of 127.0.0.0/8 and a port number
// that the kernel picks, so nothing is in the way of anything.
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
		if c.path == "" {
			generation = 0
		}
		e, err := s.await(eventlog.Entry{Name: "main", Generation: generation})
		if err != nil {
			return nil, err
		}
		return []float64{float64(e[0].At - s.began)}, nil
	}
}

// begin starts a superdaemon that has a status file and waits until its first worker has started.
func begin(c candidate, w workers, options []string, env ...string) (*superdaemon, error) {
	s, err := start(c.path, append([]string{"--status-file=status", "--port=127.0.0.1:0"}, options...), []string{w.stamp}, env...)
	if err != nil {
		return nil, err
	}
	if _, err := s.await(eventlog.Entry{Name: "main", Generation: 1}); err != nil {
		s.stop()
		return nil, err
	}
	if err := s.settle(1, 1); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func hupToMain(c candidate, w workers) ([]float64, error) {
	s, err := begin(c, w, nil)
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
	}
	return samples, nil
}

func hupToTerm(c candidate, w workers) ([]float64, error) {
	var options []string
	if c.ready {
		options = []string{"--ready-timeout=60"}
	}
	s, err := begin(c, w, options)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	var samples []float64
	for generation := 1; generation <= 3; generation++ {
		hup, _, term, err := s.swap(generation, 1)
		if err != nil {
			return nil, err
		}
		samples = append(samples, float64(term-hup))
	}
	return samples, nil
}

// generate makes so many generations as fast as they will go.
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
		bytes, err := s.restingMemory()
		return []float64{bytes}, err
	}
}

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
		return []float64{float64(after - before)}, err
	}
}

// hupAmong times a swap while so many old workers, which do not go on TERM, are still there.
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

// syscallsIn counts what a superdaemon does while there is nothing to do.
func syscallsIn(idle time.Duration) func(candidate, workers) ([]float64, error) {
	return func(c candidate, w workers) ([]float64, error) {
		s, err := begin(c, w, nil)
		if err != nil {
			return nil, err
		}
		defer s.stop()
		if err := s.generate(1); err != nil { // whatever is started once is started now
			return nil, err
		}
		time.Sleep(3 * time.Second) // idle is who has had time to tidy up
		out := filepath.Join(s.folder, "strace")
		strace := exec.Command("timeout", "--signal=INT", strconv.FormatFloat(idle.Seconds(), 'f', 3, 64),
			"strace", "-f", "-qq", "-o", out, "-p", strconv.Itoa(s.cmd.Process.Pid))
		if text, err := strace.CombinedOutput(); err != nil && strace.ProcessState.ExitCode() != 124 {
			return nil, fmt.Errorf("strace: %w: %s", err, text)
		}
		text, err := os.ReadFile(out)
		return []float64{float64(len(completed(string(text))))}, err
	}
}

// completed are the lines of strace's output that are neither what a thread was in the middle of when strace came, nor
// what it is in the middle of when strace goes.
func completed(trace string) []string {
	return slices.DeleteFunc(slices.Collect(strings.Lines(trace)), func(line string) bool {
		return strings.Contains(line, "detached ...>") || strings.Contains(line, "unfinished ...>")
	})
}

// size is that of the candidate's file. It is an error if it needs a dynamic linker; a script has no size of its own.
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
