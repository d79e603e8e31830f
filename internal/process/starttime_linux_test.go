package process

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestStartTick compares the start of a child with the ticks before and after it.
func TestStartTick(t *testing.T) {
	before, ok := CurrentTick()
	if !ok {
		t.Skip("not known on this system")
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	after, _ := CurrentTick()
	if started, ok := StartTick(cmd.Process.Pid); !ok || started < before || started > after {
		t.Errorf("started at %d, %v; want %d to %d", started, ok, before, after)
	}
	if own, ok := StartTick(os.Getpid()); !ok || own > before {
		t.Errorf("this process was started at %d, %v; now it is %d", own, ok, before)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if now, _ := CurrentTick(); now > after {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the clock does not advance")
		}
	}
	if _, ok := StartTick(1 << 30); ok {
		t.Error("a process that does not exist was started")
	}
}
