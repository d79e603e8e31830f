//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/start-server/start-server/internal/load"
)

// TestWorkers measures the requests per second of a server that uses one processor, in one process
// and in two.
func TestWorkers(t *testing.T) {
	const duration = 5 * time.Second
	var b strings.Builder
	fmt.Fprintf(&b, "%-36s %-10s %s\n", "Node, 4e6 steps of computing", "processes", "requests per second")
	for _, workers := range []int{1, 2} {
		port := freePort(t)
		d := newSuperdaemon(t, tested, t.TempDir())
		s := server{program: words("node SERVERS/app.js")}
		options := []string{fmt.Sprintf("--workers=%d", workers), "--port=127.0.0.1:" + port, "--"}
		d.start(append(options, s.command(t, d.dir, []string{port})...)...)
		d.waitStatus(`^1:\d+\n$`)
		d.waitAnswer("127.0.0.1:" + port)
		ctx, stop := context.WithTimeout(t.Context(), duration)
		result := load.Run(ctx, load.Target{Network: "tcp", Address: "127.0.0.1:" + port}, 8, false)
		stop()
		d.stop()
		if result.Lost > 0 {
			t.Errorf("%d processes: lost %d of %d: %v", workers, result.Lost, result.Sent, result.Errors)
		}
		fmt.Fprintf(&b, "%-36s %-10d %.0f\n", "", workers, float64(result.Answered)/duration.Seconds())
	}
	publish(t, b.String())
}
