package starter

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/accepting"
	"github.com/start-server/start-server/internal/sdnotify"
	"github.com/start-server/start-server/internal/status"
)

// leakVariable names the directory of TestLeaksSuperdaemon, which is run in a process of its own,
// since a superdaemon takes over the whole process.
const leakVariable = "STARTER_TEST_LEAKS"

// acceptVariable is set if it runs with AcceptTimeout instead of ReadyTimeout.
const acceptVariable = "STARTER_TEST_LEAKS_ACCEPT"

// TestLeaks checks that restarts leak no goroutines and descriptors, and that none are left at the
// end.
func TestLeaks(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, accept := range []string{"", "yes"} {
		if accept != "" && !accepting.Supported {
			continue
		}
		cmd := exec.Command(self, "-test.run=^TestLeaksSuperdaemon$", "-test.timeout=1m", "-test.gocoverdir="+flag.Lookup("test.gocoverdir").Value.String())
		cmd.Env = append(os.Environ(), leakVariable+"="+t.TempDir(), acceptVariable+"="+accept, "GORACE=atexit_sleep_ms=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestLeaksSuperdaemon(t *testing.T) {
	dir := os.Getenv(leakVariable)
	if dir == "" {
		t.Skip("run by TestLeaks")
	}
	if address := os.Getenv("NOTIFY_SOCKET"); address != "" { // this is a worker
		if err := sdnotify.Send(address, "READY=1"); err != nil {
			t.Fatal(err)
		}
		select {} // until TERM
	}
	accept := os.Getenv(acceptVariable) != ""
	if _, fd, ok := strings.Cut(os.Getenv("SERVER_STARTER_PORT"), "="); ok && accept { // this is a worker
		number, _ := strconv.Atoi(fd)
		_, _, err := unix.Accept(number) // until TERM
		t.Fatal(err)
	}
	c := NewConfig(os.Args...)
	c.Interval, c.ReadyTimeout = time.Millisecond, 20*time.Second
	if accept {
		c.ReadyTimeout, c.AcceptTimeout = 0, c.ReadyTimeout
	}
	c.Paths, c.PIDFile, c.StatusFile = []string{filepath.Join(dir, "s")}, filepath.Join(dir, "pid"), filepath.Join(dir, "status")
	c.LogFile = "| cat >" + filepath.Join(dir, "log")

	before := measure(t)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer stop()
		requestRestarts(t, c.StatusFile, 3)
		first := measure(t)
		requestRestarts(t, c.StatusFile, 10)
		if last := measure(t); last != first {
			t.Errorf("%+v after the restarts, %+v before", last, first)
		}
	}()
	if err := Run(ctx, c); err != nil {
		t.Error(err)
	}
	// The goroutine of os/signal and the descriptors of the runtime's poller stay.
	if after := measure(t); after.goroutines > before.goroutines+1 || after.descriptors > before.descriptors+2 {
		t.Errorf("%+v at the end, %+v before", after, before)
	}
	checkFurtherRuns(t, c)
	c.LogFile, c.EnvDir = filepath.Join(dir, "log"), dir
	checkFurtherRuns(t, c)
}

// checkFurtherRuns checks that Run leaks nothing when it is called again, with a context that has
// ended already or that ends after the start.
func checkFurtherRuns(t *testing.T, c Config) {
	before := measure(t)
	for range 3 {
		ended, stop := context.WithCancel(t.Context())
		stop()
		if err := Run(ended, c); err != nil {
			t.Error(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		c.OnEvent = func(e Event) {
			if _, ok := e.(WorkerReady); ok {
				stop()
			}
		}
		if err := Run(ctx, c); err != nil {
			t.Error(err)
		}
		stop()
	}
	if after := measure(t); after.descriptors > before.descriptors || after.goroutines > before.goroutines {
		t.Errorf("%+v after further runs, %+v before", after, before)
	}
}

// requestRestarts sends HUPs until the given number of generations has followed, one at a time.
func requestRestarts(t *testing.T, file string, generations int) {
	generation := awaitNewer(t, file, 0)
	for range generations {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Error(err)
		}
		generation = awaitNewer(t, file, generation)
	}
}

func awaitNewer(t *testing.T, file string, than int) (generation int) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if workers, _ := status.Read(file); len(workers) == 1 && workers[0].Generation > than {
			return workers[0].Generation
		}
	}
	t.Errorf("no generation follows generation %d", than)
	return than
}

type resources struct{ goroutines, descriptors int }

// measure returns the minimum of many measurements: something short may be under way.
func measure(t *testing.T) resources {
	least := resources{1 << 30, 1 << 30}
	for range 100 {
		entries, err := os.ReadDir("/dev/fd")
		if err != nil {
			t.Error(err)
		}
		least.goroutines = min(least.goroutines, goruntime.NumGoroutine())
		least.descriptors = min(least.descriptors, len(entries))
		time.Sleep(time.Millisecond)
	}
	return least
}
