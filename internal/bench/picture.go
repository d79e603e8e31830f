//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/start-server/start-server/internal/bench/eventlog"
	"github.com/start-server/start-server/internal/load"
)

// swap is a measured one. Times are on CLOCK_MONOTONIC.
type swap struct {
	from, to                   time.Duration // what the picture shows
	hup                        time.Duration
	main, ready                time.Duration // of the new worker
	term, exit                 time.Duration // of the old worker
	oldPID, newPID, superPID   int
	answers                    map[int][]time.Duration // when, by the generation that answered
	startup, work, lost, total string
}

// drawSwap measures one swap under load and draws it into the file.
func drawSwap(path, ours string, w workers) error {
	s, err := measureSwap(ours, w)
	if err != nil {
		return err
	}
	return os.WriteFile(path, s.svg(), 0o644)
}

// measureSwap has 16 clients ask a worker that takes a while to start and to answer, and sends HUP in the middle.
func measureSwap(ours string, w workers) (*swap, error) {
	result := &swap{startup: "400ms", work: "130ms", answers: make(map[int][]time.Duration)}
	s, err := start(ours, []string{"--port=127.0.0.1:0", "--ready-timeout=10"}, []string{w.web},
		"WEB_STARTUP="+result.startup, "WEB_WORK="+result.work)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	first, err := s.await(eventlog.Entry{Name: "ready", Generation: 1})
	if err != nil {
		return nil, err
	}
	result.superPID, result.oldPID = s.cmd.Process.Pid, first[0].PID
	address, err := s.address()
	if err != nil {
		return nil, err
	}
	stop := result.ask(address)
	time.Sleep(400 * time.Millisecond) // what is seen before the swap
	result.from = eventlog.Now() - 300*time.Millisecond
	if result.hup, err = s.hup(); err != nil {
		return nil, err
	}
	events, err := s.await(eventlog.Entry{Name: "main", Generation: 2}, eventlog.Entry{Name: "ready", Generation: 2},
		eventlog.Entry{Name: "TERM", Generation: 1}, eventlog.Entry{Name: "exit", Generation: 1})
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	time.Sleep(300 * time.Millisecond) // and after it
	result.to, result.newPID = eventlog.Now(), events[0].PID
	result.main, result.ready, result.term, result.exit = events[0].At, events[1].At, events[2].At, events[3].At
	return result, stop()
}

// ask starts 16 clients, half of them with kept connections, and returns what ends them.
func (s *swap) ask(address string) (stop func() error) {
	var mu sync.Mutex
	ctx, cancel := context.WithCancel(context.Background())
	check := func(r *http.Response, body []byte) error {
		generation, err := strconv.Atoi(string(body))
		mu.Lock()
		defer mu.Unlock()
		s.answers[generation] = append(s.answers[generation], eventlog.Now())
		return err
	}
	const clients = 16
	results := make(chan load.Result, clients)
	for i := range clients {
		go func() {
			time.Sleep(time.Duration(i) * 6 * time.Millisecond) // out of step, as clients are
			pause := time.Duration(5+i) * time.Millisecond
			target := load.Target{Network: "tcp", Address: address, Pause: pause, Check: check}
			results <- load.Run(ctx, target, 1, i%2 == 0)
		}()
	}
	return func() error {
		cancel()
		var total load.Result
		for range clients {
			total.Add(<-results)
		}
		s.total, s.lost = strconv.Itoa(total.Answered), strconv.Itoa(total.Lost)
		if total.Lost > 0 {
			return fmt.Errorf("lost %d of %d requests: %v", total.Lost, total.Sent, total.Errors)
		}
		return nil
	}
}

// Measures of the picture, in pixels.
const (
	width, height = 880, 320
	left, right   = 130, 20 // margins beside the lanes
	bar           = 26      // height of a lane's bar
)

const style = `<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.small { font-size: 11px } .muted { fill: #6e7781 } .axis { stroke: #8c959f } .event { stroke: #57606a; stroke-dasharray: 3 3 }
.super { fill: #8c959f } .old { fill: #bf8700 } .new { fill: #1a7f37 } .starting { fill: #1a7f37; opacity: .3 } .leaving { fill: #bf8700; opacity: .45 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .muted { fill: #8d96a0 } }
</style>
`

func (s *swap) svg() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="A swap of generations, as it was measured">`+"\n", width, height)
	b.WriteString(style)
	s.lane(&b, 60, "start_server", s.superPID, segment{"super", s.from, s.to})
	s.lane(&b, 120, "generation 1", s.oldPID, segment{"old", s.from, s.term}, segment{"leaving", s.term, s.exit})
	s.lane(&b, 200, "generation 2", s.newPID, segment{"starting", s.main, s.ready}, segment{"new", s.ready, s.to})
	s.histogram(&b, 120, 1, "old")
	s.histogram(&b, 200, 2, "new")
	s.event(&b, 20, s.hup, "HUP", "end")
	s.event(&b, 20, s.main, fmt.Sprintf("main +%s ms", ms(s.main-s.hup)), "start")
	s.event(&b, 20, s.ready, fmt.Sprintf("READY=1 +%s", ms(s.ready-s.hup)), "end")
	s.event(&b, 34, s.term, fmt.Sprintf("TERM +%s", ms(s.term-s.hup)), "start")
	s.event(&b, 20, s.exit, fmt.Sprintf("old gone +%s", ms(s.exit-s.hup)), "start")
	s.axis(&b, 290)
	fmt.Fprintf(&b, `<text class="small muted" x="%d" y="%d">16 clients; a worker takes %s to start and %s to answer; heights: answers in 10 ms; all in all %s answered, %s lost</text>`+"\n</svg>\n",
		left, height-6, s.startup, s.work, s.total, s.lost)
	return b.Bytes()
}

func ms(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64) }

// x is where on the picture a time is.
func (s *swap) x(at time.Duration) float64 {
	at = min(max(at, s.from), s.to)
	return left + float64(at-s.from)/float64(s.to-s.from)*(width-left-right)
}

// segment is a stretch of time within a lane.
type segment struct {
	class    string
	from, to time.Duration
}

func (s *swap) lane(b *bytes.Buffer, y int, name string, pid int, segments ...segment) {
	fmt.Fprintf(b, `<text x="10" y="%d">%s</text><text class="small muted" x="10" y="%d">pid %d</text>`+"\n", y+11, name, y+25, pid)
	for _, g := range segments {
		fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`+"\n", g.class, s.x(g.from), y, s.x(g.to)-s.x(g.from), bar)
	}
}

// histogram draws the answers of a generation beneath its lane: how many in each 10 ms.
func (s *swap) histogram(b *bytes.Buffer, y, generation int, class string) {
	const bin = 10 * time.Millisecond
	bins := make(map[int]int)
	for _, at := range s.answers[generation] {
		if at >= s.from && at < s.to {
			bins[int((at-s.from)/bin)]++
		}
	}
	answered := 0
	for i := range int((s.to-s.from)/bin) + 1 {
		if bins[i] > 0 {
			h := min(6*bins[i], 40)
			fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="3" height="%d"/>`+"\n", class, s.x(s.from+time.Duration(i)*bin), y+bar+3, h)
		}
		answered += bins[i]
	}
	fmt.Fprintf(b, `<text class="small muted" x="10" y="%d">%d answers</text>`+"\n", y+39, answered)
}

func (s *swap) event(b *bytes.Buffer, y int, at time.Duration, text, anchor string) {
	shift := 4
	if anchor == "end" {
		shift = -4
	}
	fmt.Fprintf(b, `<line class="event" x1="%.1f" y1="%d" x2="%.1f" y2="270"/><text class="small" x="%.1f" y="%d" text-anchor="%s">%s</text>`+"\n",
		s.x(at), y-10, s.x(at), s.x(at)+float64(shift), y, anchor, text)
}

// axis counts milliseconds from the HUP.
func (s *swap) axis(b *bytes.Buffer, y int) {
	fmt.Fprintf(b, `<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", left, y-14, width-right, y-14)
	const step = 100 * time.Millisecond
	fmt.Fprintf(b, `<text class="small muted" x="10" y="%d">ms since HUP</text>`+"\n", y)
	for at := s.hup - (s.hup-s.from)/step*step; at <= s.to; at += step {
		fmt.Fprintf(b, `<text class="small muted" x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", s.x(at), y, (at-s.hup)/time.Millisecond)
	}
}
