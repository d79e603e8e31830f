package background

import (
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	t.Parallel()
	woken := make(chan struct{}, 10)
	r := New(func() { woken <- struct{}{} })
	defer r.Close()
	n := 0
	for i := range 100 {
		if !r.Run(func() { n++ }, 20*time.Second) || n != i+1 {
			t.Fatalf("after run %d: %d pieces of work have ended", i, n)
		}
		<-woken
	}
}

// TestRunStuck checks that work that hangs blocks neither its owner nor Wait.
func TestRunStuck(t *testing.T) {
	t.Parallel()
	woken := make(chan struct{}, 10)
	r := New(func() { woken <- struct{}{} })
	defer r.Close()
	hang := make(chan struct{})
	result := ""
	if r.Run(func() { <-hang; result = "ended" }, time.Millisecond) {
		t.Error("Run reports the end of work that hangs")
	}
	if r.Idle() || r.Wait(time.Millisecond) {
		t.Error("idle while work is under way")
	}
	if r.Run(func() { t.Error("started beside other work") }, 0) {
		t.Error("Run reports the end of work that it must not start")
	}
	close(hang)
	<-woken
	if !r.Idle() || result != "ended" {
		t.Errorf("idle is %v, the result is %q", r.Idle(), result)
	}
}
