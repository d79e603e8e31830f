//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Pdeathsig is about the thread that started the process: it must be one that lives until the end.
func init() { runtime.LockOSThread() }

func main() {
	run := flag.String("run", "", "measure only these, comma-separated: start, hup, term, deploy, memory, generations, cpu, idle, ports, lingering, upgrade, recovery, requests, size")
	rounds := flag.Int("rounds", 100, "measure nothing more often than this")
	idle := flag.Duration("idle", 10*time.Second, "how long to watch an idle superdaemon")
	svg := flag.String("svg", "", "draw a restart and a recovery, as they were measured, into swap.svg and killed.svg in this `directory` (and measure nothing else, unless -run is given)")
	subject := flag.String("start-server", "", "the start_server of this module (default: built from this tree)")
	reference := flag.String("perl", "/usr/bin/start_server", "Perl's start_server")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./internal/bench [options] [NAME=FILE...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := bench(*run, *rounds, *idle, *svg, *subject, *reference, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(run string, rounds int, idle time.Duration, svg, subject, reference string, peers []string) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &builder{dir: dir}
	w, err := b.workers()
	if err != nil {
		return err
	}
	if subject == "" {
		if subject, err = b.build("start_server", "./cmd/start_server"); err != nil {
			return err
		}
	}
	if subject, err = filepath.Abs(subject); err != nil { // it is started in other directories
		return err
	}
	if svg != "" {
		err := errors.Join(drawRestart(filepath.Join(svg, "swap.svg"), subject, w), drawRecovery(filepath.Join(svg, "killed.svg"), subject, w))
		if err != nil || run == "" {
			return err
		}
	}
	candidates, err := b.candidates(subject, reference, peers)
	if err != nil {
		return err
	}
	chosen := selected(run, idle)
	if len(chosen) == 0 {
		return fmt.Errorf("-run %q: no such figure", run)
	}
	return measureAll(chosen, rounds, candidates, w, b.notes)
}

func selected(run string, idle time.Duration) []figure {
	all := figures(idle)
	if run == "" {
		return all
	}
	keys := strings.Split(run, ",")
	return slices.DeleteFunc(all, func(f figure) bool { return !slices.Contains(keys, f.key) })
}

// measureAll takes the candidates in turn, round after round, so that whatever else the machine
// does meets them all, and prints the table. Each round has an order of its own: it matters what ran
// just before. What could not be measured is listed below the table.
func measureAll(figures []figure, rounds int, candidates []candidate, w workers, notes []string) error {
	var rows []row
	for _, f := range figures {
		r := row{title: f.title, unit: f.unit, samples: make(map[string][]float64), failed: make(map[string]bool)}
		for range min(f.rounds, rounds) {
			for _, i := range rand.Perm(len(candidates)) {
				c := candidates[i]
				if r.failed[c.name] || !slices.Contains(f.kinds, c.kind) {
					continue
				}
				samples, err := f.measure(c, w)
				if err != nil {
					r.failed[c.name] = true
					notes = append(notes, fmt.Sprintf("%s failed: %s: %v", c.name, f.title, err))
					continue
				}
				r.samples[c.name] = append(r.samples[c.name], samples...)
			}
		}
		rows = append(rows, r)
		fmt.Fprintln(os.Stderr, f.title)
	}
	writeTable(os.Stdout, rows, candidates)
	for _, note := range notes {
		fmt.Println("-", note)
	}
	if slices.ContainsFunc(rows, func(r row) bool { return r.failed[subject] }) {
		return errors.New("start_server failed, see above")
	}
	return nil
}
