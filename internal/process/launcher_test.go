package process

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestInterpreter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"#!/bin/sh\nexit":        "/bin/sh",
		"#! /bin/sh -e\n":        "/bin/sh",
		"#!./here":               "./here",
		"#!\n/bin/sh":            "",
		"/bin/sh":                "",
		" #!/bin/sh":             "",
		"\x7fELF\x02#!/bin/sh\n": "",
		"":                       "",
	} {
		if got := interpreter(file(t, 0o755, text)); got != want {
			t.Errorf("the interpreter of %q is %q, want %q", text, got, want)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, t.TempDir(), "/no/such"} {
		if got := interpreter(path); got != "" {
			t.Errorf("the interpreter of %s is %q", path, got)
		}
	}
}

// TestLauncherHangs stands in for a file system that hangs: a check under way that does not end.
func TestLauncherHangs(t *testing.T) {
	t.Parallel()
	read, write, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := Launcher{answer: read}
	spec := Spec{Args: []string{"sh", "-c", "exit 3"}, Env: os.Environ(), Files: []uintptr{0, 1, 2}}
	if pid, err := l.Start(spec); !errors.Is(err, ErrNotAnswering) || pid != 0 {
		t.Errorf("Start = %d, %v; want %v", pid, err, ErrNotAnswering)
	}
	unix.Close(write)
	if !l.answered(20 * time.Second) { // a child of another test may have the pipe open until its exec
		t.Fatal("the check has not ended")
	}
	pid, err := l.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	if status := exitStatus(t, pid); status != 3 {
		t.Errorf("exit status %d, want 3", status)
	}
}

// TestFileCheck checks in another process, as for a file system that is not local.
func TestFileCheck(t *testing.T) {
	t.Parallel()
	script := file(t, 0o755, "#!/bin/sh -e\n")
	unreadable := file(t, 0o000, "x")
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []Spec{
		{Args: []string{"sh"}, Env: os.Environ()},
		{Args: []string{"./program"}, Dir: filepath.Dir(script)},
		{Args: []string{unreadable}},
		{Args: []string{fifo}},
		{Args: []string{os.Args[0]}},
		{Args: []string{"no-such"}, Dir: "/no/such"},
		{Args: []string{""}},
	} {
		l := Launcher{}
		if !l.answers(spec) && !l.answered(20*time.Second) {
			t.Errorf("%q: the check does not end", spec.Args)
		}
	}
}
