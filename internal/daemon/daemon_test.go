package daemon

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
)

// reportVariable names the file in which the detached copy of this test program describes itself.
const reportVariable = "DAEMON_TEST_REPORT"

// report is what a detached program finds.
type report struct {
	Detached, Again      bool
	VariableLeft         bool
	Parent, Session, PID int
	Input                string // what standard input is
	Name                 string // as pgrep(1) sees it
	Inherited            []int
}

func TestMain(m *testing.M) {
	file := os.Getenv(reportVariable)
	if file == "" || os.Getenv(variable) == "" {
		os.Exit(m.Run())
	}
	if filepath.Base(file) == "fails" {
		os.Exit(1)
	}
	parent, detached := Detached()
	_, again := Detached()
	_, left := os.LookupEnv(variable)
	session, _ := unix.Getsid(0)
	input, _ := os.Readlink("/proc/self/fd/0")
	text, _ := json.Marshal(report{detached, again, left, os.Getppid(), session, os.Getpid(), input, name(), process.Inherited()})
	_ = os.WriteFile(file, text, 0o666)
	parent.NotifyReady()
	os.Exit(0)
}

func name() string {
	comm, _ := os.ReadFile("/proc/self/comm")
	return string(comm)
}

// reap waits for the detached program, which is a child of this process.
func reap(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, _, ok := process.Reap(); ok {
			return
		}
	}
	t.Error("the detached program has not ended")
}

func TestDetach(t *testing.T) {
	// It has to inherit what this process inherited, by the same numbers.
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	given, err := unix.FcntlInt(uintptr(null), unix.F_DUPFD, 20)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(given)
	want := process.Inherited()
	file := filepath.Join(t.TempDir(), "report")
	t.Setenv(reportVariable, file)
	if err := Detach(); err != nil {
		t.Fatal(err)
	}
	reap(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b report
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	if !b.Detached || b.Again || b.VariableLeft {
		t.Errorf("detached %v, again %v, %s left %v", b.Detached, b.Again, variable, b.VariableLeft)
	}
	if b.Session != b.PID || b.Parent != os.Getpid() {
		t.Errorf("its session is %d, its pid %d, its parent %d", b.Session, b.PID, b.Parent)
	}
	if b.Name != name() {
		t.Errorf("its name is %q, want %q", b.Name, name())
	}
	if b.Input != "/dev/null" && b.Input != "" {
		t.Errorf("its standard input is %s", b.Input)
	}
	if !slices.Equal(b.Inherited, want) || !slices.Contains(want, given) {
		t.Errorf("it inherited %v, want %v with %d", b.Inherited, want, given)
	}
}

func TestDetachFails(t *testing.T) {
	t.Setenv(reportVariable, filepath.Join(t.TempDir(), "fails"))
	if err := Detach(); !errors.Is(err, ErrStartFailed) {
		t.Errorf("%v, want %v", err, ErrStartFailed)
	}
	reap(t)
}

func TestNotDetached(t *testing.T) {
	for _, value := range []string{"", "x", "-1", "0", "2"} {
		t.Setenv(variable, value)
		parent, detached := Detached()
		if detached {
			t.Errorf("%s=%q: detached", variable, value)
		}
		parent.NotifyReady() // does nothing
		if value, ok := os.LookupEnv(variable); ok {
			t.Errorf("%s=%q is left", variable, value)
		}
	}
}
