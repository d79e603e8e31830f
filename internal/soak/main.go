//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// Pdeathsig refers to the thread that starts the process: it must live as long as this process.
func init() { runtime.LockOSThread() }

func main() {
	duration := flag.Duration("duration", 10*time.Minute, "begin no further step after this")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()%1e6), "which faults in which order")
	first := flag.Int("first", 0, "the step of the schedule to begin with")
	only := flag.String("only", "", "inject only these faults, comma-separated")
	under := flag.String("variant", "", "inject them only under the superdaemon of this name")
	binary := flag.String("binary", "", "the start_server to test (default: built from this tree)")
	flag.Parse()
	if end, err := underHangingFileSystem(); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	} else if end {
		return
	}
	if err := soak(*binary, *under, *duration, *seed, *first, *only); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// tally is what became of one kind of fault.
type tally struct {
	load.Result
	injected int
	allowed  int // how many requests it might have lost
}

func soak(binary, under string, duration time.Duration, seed uint64, first int, only string) error {
	faults := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		return only != "" && !slices.Contains(strings.Split(only, ","), f.name)
	})
	variants := slices.DeleteFunc(slices.Clone(variants), func(v *variant) bool { return under != "" && under != v.name })
	if len(faults) == 0 || len(variants) == 0 {
		return fmt.Errorf("-only %q -variant %q: no such fault or variant", only, under)
	}
	s, err := newHarness(binary, os.Getenv(hangVariable))
	if s != nil {
		defer os.RemoveAll(s.dir)
	}
	if err != nil {
		return errors.Join(err, s.stop())
	}
	begin := time.Now()
	tallies := make(map[string]*tally)
	var failures []error
	for step := first; time.Since(begin) < duration; step++ {
		f, v := schedule(faults, seed, step), variants[step/len(faults)%len(variants)]
		if f.in != "" && f.in != v.name {
			continue
		}
		if err = s.become(v); err != nil {
			failures = append(failures, fmt.Errorf("before step %d of seed %d: %w", step, seed, err))
			break
		}
		s.rand = rand.New(rand.NewPCG(seed, uint64(step)))
		fmt.Printf("%8.1fs step %d of seed %d: %s: %s\n", time.Since(begin).Seconds(), step, seed, v.name, f.name)
		t := tallies[f.name]
		if t == nil {
			t = new(tally)
			tallies[f.name] = t
		}
		if err = s.step(f, t); err != nil {
			failures = append(failures, fmt.Errorf("step %d of seed %d: %s: %s: %w", step, seed, v.name, f.name, err))
			if s.gone() || s.newest() == 0 {
				break // all that follows would fail too
			}
		}
	}
	failures = append(failures, s.stop())
	report(tallies, time.Since(begin))
	reportVariants()
	return errors.Join(failures...)
}

// schedule is the fault of a step: all of them in one order, then all of them in another.
func schedule(chosen []fault, seed uint64, step int) fault {
	round := rand.New(rand.NewPCG(seed, ^uint64(step/len(chosen))))
	return chosen[round.Perm(len(chosen))[step%len(chosen)]]
}

// step injects a fault under load, with up to two HUPs at random besides, and waits until it has
// recovered.
func (s *harness) step(f fault, t *tally) error {
	generation := s.newest()
	stop := s.traffic()
	time.Sleep(s.someTime(100))
	hups := make(chan struct{})
	pauses := []time.Duration{s.someTime(1000), s.someTime(1000)}[:s.rand.IntN(3)]
	go func() {
		defer close(hups)
		for _, pause := range pauses {
			if !f.alone {
				time.Sleep(pause)
				s.signal(syscall.SIGHUP)
			}
		}
	}()
	err := f.inject(s)
	<-hups
	if !f.swaps && (f.alone || len(pauses) == 0) {
		generation-- // the same will do
	}
	err = errors.Join(err, s.recovered(generation))
	s.variant.most = max(s.variant.most, s.memory())
	result := stop()
	t.Add(result)
	t.injected++
	allowed := f.kills * s.variant.cut
	if f.outage {
		allowed = result.Sent
	}
	t.allowed += allowed
	if result.Lost > allowed {
		err = errors.Join(err, fmt.Errorf("lost %d of %d requests: %v", result.Lost, result.Sent, result.Errors))
	}
	return err
}

// report prints the table, a line for each kind of fault.
func report(tallies map[string]*tally, took time.Duration) {
	fmt.Printf("\n| fault | injected | answered | lost | slowest |\n|---|---:|---:|---:|---:|\n")
	var spared, killed tally
	for _, f := range faults {
		t := tallies[f.name]
		if t == nil {
			continue
		}
		fmt.Printf("| %s | %d | %d | %s | %v |\n", f.name, t.injected, t.Answered, t.loss(), t.Slowest.Round(time.Millisecond))
		sum := &spared
		if t.allowed > 0 {
			sum = &killed
		}
		sum.Add(t.Result)
		sum.injected += t.injected
		sum.allowed += t.allowed
	}
	fmt.Printf("| **leaves a worker alive** | %d | %d | **%d** | %v |\n", spared.injected, spared.Answered, spared.Lost, spared.Slowest.Round(time.Millisecond))
	fmt.Printf("| kills a serving worker, or its sockets | %d | %d | %s | %v |\n\n", killed.injected, killed.Answered, killed.loss(), killed.Slowest.Round(time.Millisecond))
	fmt.Printf("%d faults in %v: answered %d, lost %d with a worker left alive\n", spared.injected+killed.injected,
		took.Round(time.Second), spared.Answered+killed.Answered, spared.Lost)
}

func (t *tally) loss() string {
	if t.allowed == 0 {
		return fmt.Sprint(t.Lost)
	}
	return fmt.Sprintf("%d (at most %d)", t.Lost, t.allowed)
}
