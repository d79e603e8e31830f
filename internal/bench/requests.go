//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/start-server/start-server/internal/bench/eventlog"
)

var wrkRate = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)

// requests has wrk ask the web worker as fast as it can for some seconds.
func requests(c candidate, w workers) ([]float64, error) {
	s, err := start(c.path, []string{"--port=127.0.0.1:0"}, []string{w.web})
	if err != nil {
		return nil, err
	}
	defer s.stop()
	generation := 1
	if c.path == "" {
		generation = 0
	}
	if _, err := s.await(eventlog.Entry{Name: "ready", Generation: generation}); err != nil {
		return nil, err
	}
	address, err := s.address()
	if err != nil {
		return nil, err
	}
	out, err := exec.Command("wrk", "-t1", "-c16", "-d3s", "http://"+address+"/").CombinedOutput()
	match := wrkRate.FindSubmatch(out)
	if err != nil || match == nil {
		return nil, fmt.Errorf("wrk: %w: %s", err, out)
	}
	rate, err := strconv.ParseFloat(string(match[1]), 64)
	return []float64{rate}, err
}
