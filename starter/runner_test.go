package starter

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
)

// embeddedVariable names the directory of TestEmbeddedProgram, which TestEmbedded runs in a process
// of its own, since a superdaemon takes over the whole process.
const embeddedVariable = "STARTER_TEST_EMBEDDED"

// TestEmbedded runs a program that counts the crashes of its worker. It checks that Run restores
// the process afterwards.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestEmbeddedProgram$", "-test.v", "-test.timeout=1m", "-test.gocoverdir="+flag.Lookup("test.gocoverdir").Value.String())
	cmd.Env = append(os.Environ(), embeddedVariable+"="+t.TempDir(), "GORACE=atexit_sleep_ms=0")
	out, _ := cmd.CombinedOutput()
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !bytes.Contains(out, []byte("the process is restored")) || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("the program ended with %v, not by TERM:\n%s", cmd.ProcessState, out)
	}
}

func TestEmbeddedProgram(t *testing.T) {
	dir := os.Getenv(embeddedVariable)
	if dir == "" {
		t.Skip("run by TestEmbedded")
	}
	var output, restored unix.Stat_t
	if err := unix.Fstat(process.Stdout, &output); err != nil {
		t.Fatal(err)
	}
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, syscall.SIGHUP) // the program's own
	for range 2 {
		if crashes := superviseCrashes(t, filepath.Join(dir, "log")); crashes != 3 {
			t.Errorf("counted %d crashes, want 3", crashes)
		}
	}
	if err := unix.Fstat(process.Stdout, &restored); err != nil || restored.Ino != output.Ino || restored.Dev != output.Dev {
		t.Errorf("standard output is another file, %v", err)
	}
	if signal.Ignored(syscall.SIGPIPE) {
		t.Error("PIPE is still ignored")
	}
	raise := func(sig syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	raise(syscall.SIGHUP)
	select {
	case <-hups:
	case <-time.After(20 * time.Second):
		t.Error("HUP does not reach the program")
	}
	if !t.Failed() {
		t.Log("the process is restored") // written at once, with -test.v
	}
	raise(syscall.SIGTERM) // ends the process, since it is no longer caught
	time.Sleep(20 * time.Second)
}

// superviseCrashes kills a worker three times, restarts it, and returns the number of crashes
// counted.
func superviseCrashes(t *testing.T, log string) (crashes int) {
	ctx, stop := context.WithCancel(t.Context())
	c := NewConfig("sleep", "1000")
	c.Interval, c.LogFile = 10*time.Millisecond, log
	var r *Runner
	c.OnEvent = func(e Event) {
		switch e := e.(type) {
		case WorkerReady:
			if e.Generation <= 3 {
				_ = unix.Kill(e.PID, unix.SIGKILL)
			} else if e.Generation == 4 {
				r.Restart()
			}
		case WorkerDied:
			if !e.Stopped {
				crashes++
			}
		case RestartSucceeded:
			if e.Generation != 5 {
				t.Errorf("generation %d has replaced 4", e.Generation)
			}
			stop()
		}
	}
	r = New(c)
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	return crashes
}
