//go:build conformance

package conformance

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// loading is how long the applications of TestLoading take to load.
const loading = 3 * time.Second

// loadingServers are unchanged servers that know nothing of readiness. Programs that load nothing
// are started after a sleep.
var loadingServers = []server{
	{name: "Starlet", program: words("plackup -s Starlet --max-workers=3 SERVERS/app.psgi"), lossless: true},
	{name: "Starman", options: byQUIT,
		program: words("starman --workers=3 SERVERS/app.psgi")},
	{name: "Starman, preloaded", options: byQUIT,
		program: words("starman --workers=3 --preload-app SERVERS/app.psgi")},
	{name: "Twiggy", program: words("twiggy SERVERS/app.psgi")},
	{name: "gunicorn", beyond: activated, program: words("gunicorn --workers=2 --chdir=SERVERS app:app")},
	{name: "uvicorn", fd: 3, program: words("uvicorn --fd=3 --app-dir=SERVERS app:asgi")},
	{name: "Puma", beyond: activated, program: words("puma -b tcp://127.0.0.1:PORT1 SERVERS/config.ru")},
	{name: "Node", program: words("node SERVERS/app.js"), lossless: true},
	{name: "h2o", program: []string{"sh", "-c", "sleep 3; exec h2o -c DIR/h2o.conf"}, config: words("h2o.conf index.html"), ports: 2, lossless: true},
	{name: "Go, net/http", program: []string{"sh", "-c", "sleep 3; exec worker"}},
}

// TestLoading sends ten HUPs to each server under load while its application loads for longer than
// the interval: under the original, and under the tested start_server with --accept-timeout, where
// no request may wait for the application.
func TestLoading(t *testing.T) {
	t.Setenv("LOAD", fmt.Sprint(loading.Seconds()))
	var rows sync.Map
	slot := make(chan struct{}, 4) // they mostly load
	t.Run("under load", func(t *testing.T) {
		for _, s := range loadingServers {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				slot <- struct{}{}
				defer func() { <-slot }()
				rows.Store(s.name, s.testLoading(t))
			})
		}
	})
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %-14s %10s   %-14s %10s\n", fmt.Sprintf("loads for 3 s, %d HUPs", *hupsFlag), "original", "slowest", "start_server", "slowest")
	for _, s := range loadingServers {
		if row, ok := rows.Load(s.name); ok {
			b.WriteString(row.(string))
		}
	}
	publish(t, b.String())
}

func (s server) testLoading(t *testing.T) (row string) {
	var left string
	var result load.Result
	var both sync.WaitGroup
	column := func(r load.Result) string {
		return fmt.Sprintf("%-14s %7d ms", fmt.Sprintf("%d of %d", r.Lost, r.Sent), r.Slowest.Milliseconds())
	}
	if s.beyond == nil {
		both.Go(func() { left = column(s.swapLoading(t, original)) })
	} else {
		left = fmt.Sprintf("%-25s", "not possible")
	}
	both.Go(func() { result = s.swapLoading(t, tested, "--accept-timeout=60") })
	both.Wait()
	if result.Slowest > loading*2/3 || s.lossless && result.Lost > 0 {
		t.Errorf("slowest request %v, lost %d of %d: %v", result.Slowest, result.Lost, result.Sent, result.Errors)
	}
	return fmt.Sprintf("%-26s %s   %s\n", s.name, left, column(result))
}

// swapLoading is swap with time for each generation to load.
func (s server) swapLoading(t *testing.T, binDir string, options ...string) load.Result {
	d, ports := s.start(t, binDir, options...)
	return d.swap(ports, loading+500*time.Millisecond) // under the original, the next HUP must not stop it before; the cleanup kills it: Starman hangs in QUIT at times when it has just started
}
