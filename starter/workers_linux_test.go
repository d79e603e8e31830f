package starter

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
)

const workersVariable = "STARTER_TEST_WORKERS"

// TestWorkers runs a worker of two processes, one of which is killed, and compares the events.
func TestWorkers(t *testing.T) {
	t.Parallel()
	if os.Getenv(workersVariable) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestWorkers$", "-test.timeout=1m")
		cmd.Env = append(os.Environ(), workersVariable+"=1", "GORACE=atexit_sleep_ms=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	ctx, stop := context.WithCancel(t.Context())
	var events []string
	ready, killed := 0, 0
	c := NewConfig("sleep", "1000")
	c.Workers, c.Interval = 2, 0
	c.OnEvent = func(e Event) {
		switch e := e.(type) {
		case ProcessReady:
			if ready++; ready == 2 {
				killed = e.Number
				_ = syscall.Kill(e.PID, syscall.SIGKILL)
			} else if ready == 3 {
				stop()
			}
		case ProcessStarted:
			events = append(events, fmt.Sprint("started ", e.Number, e.Generation))
		case ProcessDied:
			events = append(events, fmt.Sprint("died ", e.Number, e.Generation, e.Status, e.Stopped))
		case WorkerDied:
			events = append(events, fmt.Sprint("worker died ", e.Status, e.Stopped))
		}
	}
	if err := Run(ctx, c); err != nil {
		t.Error(err)
	}
	want := []string{
		"started 1 1", "started 2 1", fmt.Sprint("died ", killed, 1, 9, false), fmt.Sprint("started ", killed, 1),
		"died 1 1 15 true", "died 2 1 15 true", "worker died 15 true",
	}
	if len(events) == len(want) {
		slices.Sort(events[4:6]) // in any order
	}
	if !slices.Equal(events, want) {
		t.Errorf("events %q, want %q", events, want)
	}
}
