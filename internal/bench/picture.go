//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/start-server/start-server/internal/bench/eventlog"
	"github.com/start-server/start-server/internal/load"
)

// picture is a stretch of time under load, as it was measured. Times are on CLOCK_MONOTONIC.
type picture struct {
	from, to       time.Duration           // what the picture shows
	zero           time.Duration           // where the axis counts from
	startup, work  string                  // how long a worker takes to start, and to answer
	answers        map[int][]time.Duration // when, by the generation that answered
	answered, lost int
}

func newPicture() picture {
	return picture{startup: "400ms", work: "130ms", answers: make(map[int][]time.Duration)}
}

// environ is the environment of the web worker.
func (p *picture) environ() []string {
	return []string{"WEB_STARTUP=" + p.startup, "WEB_WORK=" + p.work}
}

// ask starts 16 clients, half of them with kept connections, and returns what ends them.
func (p *picture) ask(network, address string) (stop func() error) {
	var mu sync.Mutex
	ctx, cancel := context.WithCancel(context.Background())
	check := func(r *http.Response, body []byte) error {
		generation, err := strconv.Atoi(string(body))
		mu.Lock()
		defer mu.Unlock()
		p.answers[generation] = append(p.answers[generation], eventlog.Now())
		return err
	}
	const clients = 16
	results := make(chan load.Result, clients)
	for i := range clients {
		go func() {
			time.Sleep(time.Duration(i) * 6 * time.Millisecond) // out of step, as clients are
			pause := time.Duration(5+i) * time.Millisecond
			target := load.Target{Network: network, Address: address, Pause: pause, Check: check}
			results <- load.Run(ctx, target, 1, i%2 == 0)
		}()
	}
	return func() error {
		cancel()
		var total load.Result
		for range clients {
			total.Add(<-results)
		}
		p.answered, p.lost = total.Answered, total.Lost
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

// svg draws the picture: the frame, what draw adds, the axis and the legend.
func (p *picture) svg(title, zero string, draw func(b *bytes.Buffer)) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s, as it was measured">`+"\n", width, height, title)
	b.WriteString(style)
	draw(&b)
	p.axis(&b, 290, zero)
	fmt.Fprintf(&b, `<text class="small muted" x="%d" y="%d">16 clients; a worker takes %s to start and %s to answer; heights: answers in 10 ms; %d requests answered, %d lost</text>`+"\n</svg>\n",
		left, height-6, p.startup, p.work, p.answered, p.lost)
	return b.Bytes()
}

func ms(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64) }

// x is where on the picture a time is.
func (p *picture) x(at time.Duration) float64 {
	at = min(max(at, p.from), p.to)
	return left + float64(at-p.from)/float64(p.to-p.from)*(width-left-right)
}

// segment is a stretch of time within a lane.
type segment struct {
	class    string
	from, to time.Duration
}

func (p *picture) lane(b *bytes.Buffer, y int, name, pid string, segments ...segment) {
	fmt.Fprintf(b, `<text x="10" y="%d">%s</text><text class="small muted" x="10" y="%d">pid %s</text>`+"\n", y+11, name, y+25, pid)
	for _, g := range segments {
		fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`+"\n", g.class, p.x(g.from), y, p.x(g.to)-p.x(g.from), bar)
	}
}

// histogram draws the answers of a generation beneath its lane: how many in each 10 ms.
func (p *picture) histogram(b *bytes.Buffer, y, generation int, class string) {
	const bin = 10 * time.Millisecond
	bins := make(map[int]int)
	for _, at := range p.answers[generation] {
		if at >= p.from && at < p.to {
			bins[int((at-p.from)/bin)]++
		}
	}
	answered := 0
	for i := range int((p.to-p.from)/bin) + 1 {
		if bins[i] > 0 {
			h := min(6*bins[i], 40)
			fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="3" height="%d"/>`+"\n", class, p.x(p.from+time.Duration(i)*bin), y+bar+3, h)
		}
		answered += bins[i]
	}
	fmt.Fprintf(b, `<text class="small muted" x="10" y="%d">%d answers</text>`+"\n", y+39, answered)
}

func (p *picture) event(b *bytes.Buffer, y int, at time.Duration, text, anchor string) {
	shift := 4
	if anchor == "end" {
		shift = -4
	}
	fmt.Fprintf(b, `<line class="event" x1="%.1f" y1="%d" x2="%.1f" y2="270"/><text class="small" x="%.1f" y="%d" text-anchor="%s">%s</text>`+"\n",
		p.x(at), y-10, p.x(at), p.x(at)+float64(shift), y, anchor, text)
}

// axis counts milliseconds from zero, which is the event of that name.
func (p *picture) axis(b *bytes.Buffer, y int, name string) {
	fmt.Fprintf(b, `<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", left, y-14, width-right, y-14)
	const step = 100 * time.Millisecond
	fmt.Fprintf(b, `<text class="small muted" x="10" y="%d">ms since %s</text>`+"\n", y, name)
	for at := p.zero - (p.zero-p.from)/step*step; at <= p.to; at += step {
		fmt.Fprintf(b, `<text class="small muted" x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", p.x(at), y, (at-p.zero)/time.Millisecond)
	}
}
