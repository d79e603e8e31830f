package output

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/process"
)

// The tests of the log are not parallel: its lines go to the standard error of the process, and its
// command is reaped together with all other children.

// restoreOutput restores standard output and error at the end of the test.
func restoreOutput(t *testing.T) {
	t.Helper()
	for _, fd := range []int{process.Stdout, process.Stderr} {
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

func open(t *testing.T, value string) *Output {
	t.Helper()
	l, err := Open(Options{To: value, Env: os.Environ, Wake: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// written waits until the log has written all lines that it can.
func written(l *Output) { l.Drain(20 * time.Second) }

func use(t *testing.T, l *Output) {
	t.Helper()
	if err := l.Use(); err != nil {
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
	restoreOutput(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l := open(t, path)
	use(t, l)
	l.Print("one")
	written(l)
	if _, err := unix.Write(process.Stdout, []byte("from a worker\n")); err != nil { // not by an os.File, whose finalizer would close it
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Print("two")
	l.Reopen()
	l.Print("three")
	written(l)
	check(t, path+".1", "one\nfrom a worker\ntwo\n")
	check(t, path, "three\n")

	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	l.Print("four")
	written(l)
	if wait := l.RunPending(); wait != deadline.Never {
		t.Errorf("RunPending = %s, want never: nothing is left to do", wait)
	}
	l.Close()
	if err := os.Rename(dir+".gone", dir); err != nil {
		t.Fatal(err)
	}
	check(t, path, fmt.Sprintf("three\nfailed to reopen the log file %q: open log file %[1]q: no such file or directory\nfour\n", path))
	if _, err := Open(Options{To: dir + "/no/such", Env: os.Environ, Wake: func() {}}); err == nil || !strings.Contains(err.Error(), dir+"/no/such") {
		t.Error(err)
	}
}

// TestLogUnread checks that a log that is not read does not block, that it keeps a limited number
// of lines, and that it reports how many were dropped.
func TestLogUnread(t *testing.T) {
	for name, make := range map[string]func(*testing.T) (read, write int){"pipe": newPipe, "socket": newSocketPair, "terminal": newTerminal} {
		t.Run(name, func(t *testing.T) {
			restoreOutput(t)
			read, write := make(t)
			if err := process.Dup2(write, process.Stderr); err != nil {
				t.Fatal(err)
			}
			unix.Close(write)
			l := open(t, "")
			l.Reopen() // there is nothing to open
			line := strings.Repeat("x", 99)
			lines := 0
			for end := time.Now().Add(20 * time.Second); l.dropped < 100 && time.Now().Before(end); lines++ {
				l.Print(line)
			}
			if l.dropped == 0 || len(l.unwritten) > maxUnwritten+len(line)+1 {
				t.Errorf("%d lines were dropped, %d bytes are kept", l.dropped, len(l.unwritten))
			}
			dropped := l.dropped
			l.Drain(10 * time.Millisecond) // times out
			got := readAll(read)
			written(l)
			l.Print("read again")
			l.Close()
			closeOutput(t)
			want := strings.Repeat(line+"\n", lines-dropped) + fmt.Sprintf("dropped %d log lines: the log reader was too slow\n", dropped) + "read again\n"
			if got := got(); got != want {
				t.Errorf("%d bytes were read, want %d; they end with %q", len(got), len(want), got[max(len(got)-200, 0):])
			}
		})
	}
}

// closeOutput closes the last descriptor that writes to the log.
func closeOutput(t *testing.T) {
	t.Helper()
	null, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	if err := process.Dup2(null, process.Stderr); err != nil {
		t.Fatal(err)
	}
}

// readAll reads in the background until end of file.
func readAll(fd int) (got func() string) {
	text := make(chan string)
	go func() {
		var all strings.Builder
		buf := make([]byte, 1<<16)
		for {
			n, err := unix.Read(fd, buf)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				break
			}
			all.Write(buf[:n])
		}
		unix.Close(fd)
		text <- strings.ReplaceAll(all.String(), "\r\n", "\n")
	}()
	return func() string { return <-text }
}

func newPipe(t *testing.T) (read, write int) {
	t.Helper()
	read, write, err := process.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return read, write
}

func newSocketPair(t *testing.T) (read, write int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range pair {
		unix.CloseOnExec(fd)
	}
	return pair[0], pair[1]
}

// TestLogRefill checks that workers that fill the pipe of a dead log command do not block the
// superdaemon, which has to start the command again.
func TestLogRefill(t *testing.T) {
	restoreOutput(t)
	dir := t.TempDir()
	l := open(t, fmt.Sprintf("| [ -e %s/repaired ] && cat >>%[1]s/log", dir))
	use(t, l)
	awaitDeath(t, l)
	stop := make(chan struct{})
	filled := make(chan struct{})
	writing := make(chan struct{})
	fd, err := unix.FcntlInt(process.Stderr, unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // the worker
		defer close(writing)
		defer unix.Close(fd)
		line := []byte(strings.Repeat("w", 63) + "\n")
		for n := 0; ; n++ {
			if n == (64<<10)/len(line)-1 {
				close(filled) // there is room for one more line at most
			}
			if _, err := unix.Write(fd, line); err != nil {
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	<-filled
	for range 1000 {
		l.Print("from the superdaemon")
	}
	if err := os.WriteFile(dir+"/repaired", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.command.startedAt = time.Now().Add(-retryLog)
	l.RunPending()
	written(l)
	close(stop)
	<-writing
	l.Close()
	text, err := os.ReadFile(dir + "/log")
	if n := bytes.Count(text, []byte("from the superdaemon\n")); n != 1000 || err != nil {
		t.Errorf("%d lines of 1000 were written (%v)", n, err)
	}
}

// TestLogClosed checks that lines that can never be written are not kept.
func TestLogClosed(t *testing.T) {
	restoreOutput(t)
	unix.Close(process.Stderr)
	l := open(t, "")
	l.Print("lost")
	written(l)
	if len(l.unwritten) > 0 || l.RunPending() != deadline.Never {
		t.Errorf("%d bytes are kept", len(l.unwritten))
	}
	l.Close()
}

func TestPiece(t *testing.T) {
	t.Parallel()
	short, long := strings.Repeat("s", 99)+"\n", strings.Repeat("l", 2*atomicWrite)+"\n"
	for _, test := range []struct{ lines, want string }{
		{short, short},
		{short + short, short + short},
		{strings.Repeat(short, 6), strings.Repeat(short, 5)},
		{long + short, long},
		{short + long, short},
	} {
		if got := piece([]byte(test.lines)); string(got) != test.want {
			t.Errorf("%d bytes of %d, want %d", len(got), len(test.lines), len(test.want))
		}
	}
}

func TestLogCommand(t *testing.T) {
	restoreOutput(t)
	dir := t.TempDir()
	l := open(t, fmt.Sprintf("| echo $0 >>%s/starts; [ -e %[1]s/repaired ] || exit 1; cat >>%[1]s/log", dir))
	use(t, l)
	pid := l.command.pid
	l.Print("one")
	awaitDeath(t, l)
	if l.OnExit(pid) || l.OnExit(0) {
		t.Error("onExit handles another process")
	}
	written(l)
	if wait := l.RunPending(); wait <= 0 || wait > retryLog {
		t.Errorf("the command is started again after %s", wait)
	}
	if err := os.WriteFile(dir+"/repaired", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.command.startedAt = time.Now().Add(-retryLog)
	l.Print("two")
	if l.RunPending(); l.command.pid == 0 {
		t.Error("the command was not started again")
	}
	l.Print("three")
	if s := l.State(); s.PID != l.command.pid || s.Pipe != l.command.pipe || s.Output != l.command.output {
		t.Errorf("%+v", s)
	}
	l.Close()
	check(t, dir+"/log", "one\ntwo\nthree\n")
}

// TestLogCommandAtTheEnd checks that a command that is not running at the end is started once more,
// to read the lines in the pipe.
func TestLogCommandAtTheEnd(t *testing.T) {
	restoreOutput(t)
	dir := t.TempDir()
	l := open(t, fmt.Sprintf("| [ -e %s/repaired ] && cat >>%[1]s/log", dir))
	use(t, l)
	awaitDeath(t, l)
	l.Print("last line")
	if err := os.WriteFile(dir+"/repaired", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.Close()
	check(t, dir+"/log", "last line\n")
}

func awaitDeath(t *testing.T, l *Output) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); l.command.pid != 0; time.Sleep(time.Millisecond) {
		if pid, _, ok := process.Reap(); ok && !l.OnExit(pid) {
			t.Fatalf("%d died, the command is %d", pid, l.command.pid)
		}
		if time.Now().After(end) {
			t.Fatal("the log command has not ended")
		}
	}
}

// TestLogDetached checks that the log command does not hold the terminal if the superdaemon is
// detached.
func TestLogDetached(t *testing.T) {
	restoreOutput(t)
	path := filepath.Join(t.TempDir(), "fds")
	l, err := Open(Options{To: "| fds=$(readlink /proc/$$/fd/1 /proc/$$/fd/2); echo \"$fds\" >" + path + "; cat >/dev/null", Env: os.Environ, Detached: true, Wake: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	use(t, l)
	l.Close()
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		check(t, path, "/dev/null\n/dev/null\n")
	}
}

func TestResumeLog(t *testing.T) {
	t.Parallel()
	s := State{Pipe: [2]int{5, 6}, Output: [2]int{7, 8}, PID: 9, Unwritten: []byte("x\n"), Dropped: 2}
	for value, words := range map[string]string{"| cat": "cat", "/log": ""} {
		l := Resume(Options{To: value, Env: func() []string { return nil }, Wake: func() {}}, s)
		saved := l.State()
		if (l.command != nil) != (words != "") || (l.file == "") != (words != "") || l.fd != -1 || saved.Dropped != 2 || string(saved.Unwritten) != "x\n" {
			t.Errorf("%q: %+v", value, l)
		}
		if l.command != nil && (l.command.words != words || saved.PID != 9) {
			t.Errorf("%q: %+v", value, l.command)
		}
		l.writer.Close()
	}
}

// TestClosedStandardOutput checks that the error says what was being done, and that no descriptor
// is left open.
func TestClosedStandardOutput(t *testing.T) {
	restoreOutput(t)
	unix.Close(process.Stdout)
	open := descriptors()
	_, keepErr := Keep()
	_, commandErr := Open(Options{To: "| cat", Env: os.Environ, Wake: func() {}})
	for _, err := range []error{keepErr, commandErr} {
		if err == nil || !strings.Contains(err.Error(), "copy descriptor 1, which the log replaces") {
			t.Errorf("the error is %v", err)
		}
	}
	if after := descriptors(); after != open {
		t.Errorf("%d descriptors were open, %d are open now", open, after)
	}
}

// descriptors returns how many descriptors are open.
func descriptors() (n int) {
	for fd := range 256 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
