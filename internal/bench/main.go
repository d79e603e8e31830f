//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Pdeathsig is about the thread that started the process: it must be one that lives as long as we do.
func init() { runtime.LockOSThread() }

func main() {
	run := flag.String("run", "", "measure only these, comma-separated: start, hup, term, memory, generations, cpu, idle, ports, lingering, requests, size")
	rounds := flag.Int("rounds", 100, "measure nothing more often than this")
	idle := flag.Duration("idle", 10*time.Second, "how long to watch an idle superdaemon")
	svg := flag.String("svg", "", "draw a swap as it was measured into this `file` (and measure nothing else, unless -run is given)")
	ours := flag.String("ours", "", "our start_server (default: built from this tree)")
	reference := flag.String("perl", "/usr/bin/start_server", "Perl's start_server")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./internal/bench [options] [binary...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := bench(*run, *rounds, *idle, *svg, *ours, *reference, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(run string, rounds int, idle time.Duration, svg, ours, reference string, others []string) error {
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	w := workers{stamp: filepath.Join(folder, "stamp"), web: filepath.Join(folder, "web")}
	if err := build(w.stamp, "./internal/bench/stamp"); err != nil {
		return err
	}
	if err := build(w.web, "./internal/bench/web"); err != nil {
		return err
	}
	if ours == "" {
		ours = filepath.Join(folder, "start_server")
		if err := build(ours, "./cmd/start_server"); err != nil {
			return err
		}
	}
	if ours, err = filepath.Abs(ours); err != nil { // it is started in other folders
		return err
	}
	if svg != "" {
		if err := drawSwap(svg, ours, w); err != nil || run == "" {
			return err
		}
	}
	var candidates []candidate
	for i, path := range append([]string{ours, reference}, others...) {
		name := filepath.Base(path)
		if i < 2 {
			name = []string{"ours", perl}[i]
		}
		c, err := newCandidate(name, path)
		if err != nil {
			return err
		}
		candidates = append(candidates, c)
	}
	candidates = append(candidates, candidate{name: nobody})
	return measure(selected(run, idle), rounds, candidates, w)
}

// build makes a binary as it would be released: static and stripped.
func build(path, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

func newCandidate(name, path string) (candidate, error) {
	path, err := filepath.Abs(path) // it is started in other folders
	if err != nil {
		return candidate{}, err
	}
	help, err := exec.Command(path, "--help").CombinedOutput()
	if err != nil {
		return candidate{}, fmt.Errorf("%s --help: %w", path, err)
	}
	return candidate{name: name, path: path, ready: strings.Contains(string(help), "--ready-timeout")}, nil
}

func selected(run string, idle time.Duration) []figure {
	all := figures(idle)
	if run == "" {
		return all
	}
	keys := strings.Split(run, ",")
	return slices.DeleteFunc(all, func(f figure) bool { return !slices.Contains(keys, f.key) })
}

// measure takes the candidates in turn, round after round, so that whatever else the machine does meets them all. What
// cannot be measured is left out of the table and told in the end.
func measure(figures []figure, rounds int, candidates []candidate, w workers) error {
	var rows []row
	var names []string
	var failures []error
	for _, c := range candidates {
		names = append(names, c.name)
	}
	for _, f := range figures {
		r := row{title: f.title, unit: f.unit, reference: f.reference, samples: make(map[string][]float64)}
		if r.reference == "" {
			r.reference = perl
		}
		for range min(f.rounds, rounds) {
			for _, c := range candidates {
				if c.path == "" && !f.bare {
					continue
				}
				samples, err := f.measure(c, w)
				if err != nil {
					failures = append(failures, fmt.Errorf("%s: %s: %w", c.name, f.title, err))
				} else {
					r.samples[c.name] = append(r.samples[c.name], samples...)
				}
			}
		}
		rows = append(rows, r)
		fmt.Fprintln(os.Stderr, f.title)
	}
	writeTable(os.Stdout, rows, names)
	return errors.Join(failures...)
}
