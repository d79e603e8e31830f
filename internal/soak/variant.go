//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
)

// variant is a superdaemon with certain options. Each round of faults has the next one.
type variant struct {
	name    string
	options []string
	copies  int // processes below the worker
	cut     int // how many requests a worker may lose that is killed

	rounds      int
	generations int
	most        int    // memory after a fault
	first, last sample // of the first superdaemon at the start, of the last one at the end
}

// sample is what must be level.
type sample struct {
	descriptors int // without those of steered sockets
	places      int // steered sockets
	processes   int
	memory      int // the superdaemon's anonymous memory, in bytes
}

var variants = []*variant{
	{name: "ready", options: []string{"--ready-timeout=2"}, cut: clients},
	{name: "accept", options: []string{"--accept-timeout=2"}, cut: clients},
	{name: "workers", options: []string{"--workers=2", "--ready-timeout=2"}, copies: 2, cut: 2 * clients},
	{name: "steer", options: []string{"--steer-udp", "--ready-timeout=2"}, cut: clients + clients/2},
}

// become ends the superdaemon, if it is one of another variant, and starts one of this variant.
func (s *harness) become(v *variant) error {
	if s.variant == v {
		return nil
	}
	if err := s.stop(); err != nil {
		return err
	}
	s.variant, s.groups = v, nil
	v.rounds++
	if err := s.start(); err != nil {
		return err
	}
	if err := s.until("generation 1 serves", func() bool { return s.newest() >= 1 && len(s.processes()) == s.expected() }); err != nil {
		return err
	}
	if now := s.sample(); v.rounds == 1 {
		v.first = now
	}
	return nil
}

// sample measures the superdaemon. A steered socket is one with its UDP port.
func (s *harness) sample() sample {
	var port int
	fmt.Sscanf(s.port, "127.0.0.1:%d", &port)
	sockets, _ := os.ReadFile("/proc/net/udp")
	places := strings.Count(string(sockets), fmt.Sprintf(": 0100007F:%04X ", port))
	return sample{s.descriptors() - places, places, len(s.processes()), s.memory()}
}

func reportVariants() {
	fmt.Println("| superdaemon with | started | generations | descriptors | steered sockets | processes | anonymous memory, MB: first, most, last |")
	fmt.Println("|---|---:|---:|---:|---:|---:|---:|")
	for _, v := range variants {
		if v.rounds > 0 {
			fmt.Printf("| `%s` | %d | %d | %d, %d | %d, %d | %d, %d | %.2f, %.2f, %.2f |\n", strings.Join(v.options, " "), v.rounds, v.generations,
				v.first.descriptors, v.last.descriptors, v.first.places, v.last.places, v.first.processes, v.last.processes,
				float64(v.first.memory)/1e6, float64(v.most)/1e6, float64(v.last.memory)/1e6)
		}
	}
}
