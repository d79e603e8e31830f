package starter

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
)

// The tests of the log are not parallel: its lines go to the standard error of the process, and its command is reaped
// with all other children.

// standard gives the process its standard output and error back at the end of the test.
func standard(t *testing.T) {
	t.Helper()
	for _, fd := range []int{stdout, stderr} {
		saved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := process.Dup2(saved, fd); err != nil {
				t.Error(err)
			}
			unix.Close(saved)
		})
	}
}

func open(t *testing.T, value string) *log {
	t.Helper()
	l, err := openLog(value, os.Environ(), false)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func use(t *testing.T, l *log) {
	t.Helper()
	if err := l.use(); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, path, want string) {
	t.Helper()
	if text, err := os.ReadFile(path); string(text) != want || err != nil {
		t.Errorf("%s holds %q (%v), want %q", filepath.Base(path), text, err, want)
	}
}

func TestLogFile(t *testing.T) {
	standard(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l := open(t, path)
	use(t, l)
	l.print("one")
	fmt.Fprintln(os.NewFile(stdout, "worker"), "from a worker")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.print("two")
	l.reopen()
	l.print("three")
	check(t, path+".1", "one\nfrom a worker\ntwo\n")
	check(t, path, "three\n")

	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	l.reopen()
	l.print("four")
	if wait := l.runPending(); wait != 0 {
		t.Errorf("nothing is to be done, but to be called after %s", wait)
	}
	l.close()
	if err := os.Rename(dir+".gone", dir); err != nil {
		t.Fatal(err)
	}
	check(t, path, fmt.Sprintf("three\nfailed to open the log file %q anew: open log file %[1]q: no such file or directory\nfour\n", path))
	if _, err := openLog(dir+"/no/such", nil, false); err == nil || !strings.Contains(err.Error(), dir+"/no/such") {
		t.Error(err)
	}
}

// TestLogUnread: nobody reads, so nothing waits, little is kept, and how much is lost is told.
func TestLogUnread(t *testing.T) {
	standard(t)
	read, write, err := process.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(read)
	if err := process.Dup2(write, stderr); err != nil {
		t.Fatal(err)
	}
	unix.Close(write)
	l := open(t, "")
	l.reopen() // there is nothing to open
	line := strings.Repeat("x", 99)
	const lines = 5000 // more than a pipe and maxUnwritten take
	for range lines {
		l.print(line)
	}
	if l.dropped == 0 || len(l.unwritten) > maxUnwritten+len(line)+1 {
		t.Errorf("%d lines were dropped, %d bytes are kept", l.dropped, len(l.unwritten))
	}
	if wait := l.runPending(); wait != retryLog {
		t.Errorf("it tries again after %s", wait)
	}
	dropped := l.dropped
	if err := unix.SetNonblock(read, true); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	drain := func() {
		buf := make([]byte, 1<<20)
		for n, _ := unix.Read(read, buf); n > 0; n, _ = unix.Read(read, buf) {
			got.Write(buf[:n])
		}
	}
	for drain(); !l.write(); drain() {
	}
	l.print("read again")
	l.close()
	drain()
	want := strings.Repeat(line+"\n", lines-dropped) + fmt.Sprintf("%d lines were lost, as nobody read the log\n", dropped) + "read again\n"
	if got.String() != want {
		t.Errorf("%d bytes were read, want %d; they end with %q", got.Len(), len(want), got.String()[max(got.Len()-200, 0):])
	}
}

// TestLogNobody: who will never read is not waited for.
func TestLogNobody(t *testing.T) {
	standard(t)
	unix.Close(stderr)
	l := open(t, "")
	l.print("into the void")
	if len(l.unwritten) > 0 || l.runPending() != 0 {
		t.Errorf("%d bytes are kept", len(l.unwritten))
	}
}

func TestLogCommand(t *testing.T) {
	standard(t)
	dir := t.TempDir()
	l := open(t, fmt.Sprintf("| echo $0 >>%s/starts; [ -e %[1]s/mended ] || exit 1; cat >>%[1]s/log", dir))
	use(t, l)
	pid := l.PID
	l.print("one")
	awaitDeath(t, l)
	if l.onExit(pid) || l.onExit(0) {
		t.Error("it died twice")
	}
	if wait := l.runPending(); wait <= 0 || wait > retryLog {
		t.Errorf("it is started again after %s", wait)
	}
	if err := os.WriteFile(dir+"/mended", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.startedAt = time.Now().Add(-retryLog)
	l.print("two")
	if wait := l.runPending(); wait != 0 || l.PID == 0 {
		t.Errorf("it has pid %d, and wants to be called after %s", l.PID, wait)
	}
	l.print("three")
	s := l.state()
	if s.PID != l.PID || s.Pipe != l.Pipe || s.Output != l.Output {
		t.Errorf("%+v", s)
	}
	l.close()
	check(t, dir+"/log", "one\ntwo\nthree\n")
}

// TestLogCommandAtTheEnd: a command that is not there at the end is started once more, for what is in the pipe.
func TestLogCommandAtTheEnd(t *testing.T) {
	standard(t)
	dir := t.TempDir()
	l := open(t, fmt.Sprintf("| [ -e %s/mended ] && cat >>%[1]s/log", dir))
	use(t, l)
	awaitDeath(t, l)
	l.print("last words")
	if err := os.WriteFile(dir+"/mended", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.close()
	check(t, dir+"/log", "last words\n")
}

func awaitDeath(t *testing.T, l *log) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); l.PID != 0; time.Sleep(time.Millisecond) {
		if pid, _, ok := process.Reap(); ok && !l.onExit(pid) {
			t.Fatalf("%d died, the command is %d", pid, l.PID)
		}
		if time.Now().After(end) {
			t.Fatal("the log command lives on")
		}
	}
}

// TestLogDetached: the terminal is not to wait for the log command.
func TestLogDetached(t *testing.T) {
	standard(t)
	path := filepath.Join(t.TempDir(), "fds")
	l, err := openLog("| fds=$(readlink /proc/$$/fd/1 /proc/$$/fd/2); echo \"$fds\" >"+path+"; cat >/dev/null", os.Environ(), true)
	if err != nil {
		t.Fatal(err)
	}
	use(t, l)
	l.close()
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		check(t, path, "/dev/null\n/dev/null\n")
	}
}

func TestResumeLog(t *testing.T) {
	t.Parallel()
	s := logState{Pipe: [2]int{5, 6}, Output: [2]int{7, 8}, PID: 9, Unwritten: []byte("x\n"), Dropped: 2}
	for value, command := range map[string]string{"| cat": "cat", "/log": ""} {
		l := resumeLog(value, nil, s)
		if l.Command != command || (l.file == "") != (command != "") || l.fd != -1 || l.state().PID != 9 || l.dropped != 2 {
			t.Errorf("%q: %+v", value, l)
		}
	}
}
