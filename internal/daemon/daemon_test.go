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

// birth is what a detached program finds.
type birth struct {
	Detached, Again, Told bool
	Parent, Session, PID  int
	Input                 string // what standard input is
	Name                  string // as pgrep(1) sees it
	Inherited             []int
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
	_, told := os.LookupEnv(variable)
	session, _ := unix.Getsid(0)
	input, _ := os.Readlink("/proc/self/fd/0")
	text, _ := json.Marshal(birth{detached, again, told, os.Getppid(), session, os.Getpid(), input, name(), process.Inherited()})
	_ = os.WriteFile(file, text, 0o666)
	parent.NotifyReady()
	os.Exit(0)
}

func name() string {
	comm, _ := os.ReadFile("/proc/self/comm")
	return string(comm)
}

// bury waits for the detached program, whose parent we are still.
func bury(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, _, ok := process.Reap(); ok {
			return
		}
	}
	t.Error("it lives on")
}

func TestDetach(t *testing.T) {
	// What we were given it is given as well, by the same numbers.
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
	bury(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b birth
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	if !b.Detached || b.Again || b.Told {
		t.Errorf("detached %v, again %v, %s left %v", b.Detached, b.Again, variable, b.Told)
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
	bury(t)
}

func TestNotDetached(t *testing.T) {
	for _, value := range []string{"", "x", "-1", "0", "2"} {
		t.Setenv(variable, value)
		parent, detached := Detached()
		if detached {
			t.Errorf("%s=%q: detached", variable, value)
		}
		parent.NotifyReady() // tells nobody
		if value, ok := os.LookupEnv(variable); ok {
			t.Errorf("%s=%q is left", variable, value)
		}
	}
}
