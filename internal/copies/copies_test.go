package copies

import (
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/start-server/start-server/internal/status"
)

func TestList(t *testing.T) {
	l := List{}
	for _, report := range []string{
		`{"number":2,"pid":22,"state":"starting","missing":["80","443"]}`,
		`{"number":1,"pid":21,"state":"starting","missing":["443"]}`,
		`{"number":3,"pid":23,"state":"serving","text":"fine"}`,
	} {
		if before, _, err := l.Update(20, report); err != nil || before.Number != 0 {
			t.Errorf("%s: before %+v, %v", report, before, err)
		}
	}
	if diff := cmp.Diff([]string{"443", "80"}, l.Missing(20)); diff != "" {
		t.Error(diff)
	}
	before, now, err := l.Update(20, `{"number":2,"pid":22,"state":"ended","status":9}`)
	if before.State != Starting || now.Status != 9 || err != nil {
		t.Errorf("before %+v, now %+v, %v", before, now, err)
	}
	if _, _, err := l.Update(20, "{"); err == nil || !strings.Contains(err.Error(), "report of worker 20") {
		t.Errorf("of a report that is cut off: %v", err)
	}
	got := l.Expand([]status.WorkerReport{{PID: 10, Generation: 1, State: Stopping}, {PID: 20, Generation: 2, State: Serving}})
	want := []status.WorkerReport{
		{PID: 10, Generation: 1, State: Stopping},
		{PID: 21, Generation: 2, State: Starting, Number: 1, Parent: 20, Missing: []string{"443"}},
		{PID: 23, Generation: 2, State: Serving, Number: 3, Parent: 20, Status: "fine"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := l.Expand([]status.WorkerReport{{PID: 20, State: Stopping}}); got[1].State != Stopping {
		t.Errorf("of a worker that was told to stop: %+v", got)
	}
}

func TestCanPassOn(t *testing.T) {
	for sig, want := range map[syscall.Signal]bool{
		syscall.SIGTERM: true, syscall.SIGUSR1: true, syscall.SIGWINCH: true, syscall.SIGKILL: true, 35: true, 64: true,
		34: false, syscall.SIGCHLD: false, syscall.SIGSTOP: false, syscall.SIGURG: false,
	} {
		if got := CanPassOn(sig); got != want {
			t.Errorf("CanPassOn(%v) = %v", sig, got)
		}
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"two words": "two words", "a\x1b[31mb": "a[31mb", strings.Repeat("é", maxText): strings.Repeat("é", maxText/2),
	} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %q", text, got)
		}
	}
}
