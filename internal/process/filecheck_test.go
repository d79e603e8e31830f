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

// TestFileCheckHangs checks that nothing is started while a check is under way, as when a file
// system hangs.
func TestFileCheckHangs(t *testing.T) {
	t.Parallel()
	read, write, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := FileCheck{answer: read}
	spec := Spec{Args: []string{"sh", "-c", "exit 3"}, Env: os.Environ(), Files: []uintptr{0, 1, 2}}
	if pid, err := c.Start(spec); !errors.Is(err, ErrNotAnswering) || pid != 0 {
		t.Errorf("Start = %d, %v; want %v", pid, err, ErrNotAnswering)
	}
	unix.Close(write)
	if !c.answered(20 * time.Second) { // a child of another test may have the pipe open until its exec
		t.Fatal("the check has not ended")
	}
	pid, err := c.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	if status := exitStatus(t, pid); status != 3 {
		t.Errorf("exit status %d, want 3", status)
	}
}

// TestFileCheckRuns runs the checks for file systems that are not local. They end even if the files
// are unusual or missing.
func TestFileCheckRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script, unreadable, fifo := filepath.Join(dir, "script"), filepath.Join(dir, "unreadable"), filepath.Join(dir, "fifo")
	err := errors.Join(os.WriteFile(script, []byte("#!/bin/sh -e\n"), 0o755), os.WriteFile(unreadable, nil, 0), unix.Mkfifo(fifo, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{checkProgram, shell, ".", "/no/such/sh", "/bin/sh"},
		{checkProgram, shell, dir, "./script"},
		{checkProgram, shell, dir, "unreadable"},
		{checkProgram, shell, dir, "fifo"},
		{checkProgram, shell, ".", os.Args[0]},
		{checkProgram, shell, "/no/such", "x"},
		{checkProgram, shell, ".", ""},
		{checkDir, shell, dir},
		{checkDir, shell, t.TempDir()},
		{checkDir, shell, "/no/such"},
	} {
		c := FileCheck{}
		if !c.run(Spec{Args: append([]string{shell, "-c"}, args...)}) && !c.answered(20*time.Second) {
			t.Errorf("%q: the check does not end", args[1:])
		}
	}
}
