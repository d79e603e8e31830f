package pidfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCreateHardLink: in a folder that everybody may write to, somebody can have given the name to a file of ours.
func TestCreateHardLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	precious, path := filepath.Join(dir, "precious"), filepath.Join(dir, "pid")
	if err := os.WriteFile(precious, []byte("leave me alone"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(precious, path); err != nil {
		t.Fatal(err)
	}
	if f, err := Create(path, os.Getpid()); err == nil {
		_ = f.Remove()
		t.Error("it was taken for a pid file")
	} else if !strings.Contains(err.Error(), "hard link") {
		t.Error(err)
	}
	if text, err := os.ReadFile(precious); string(text) != "leave me alone" || err != nil {
		t.Errorf("the file holds %q (%v)", text, err)
	}
}

// TestWaitBehindAnother: who takes the lock when the superdaemon ends keeps nobody waiting.
func TestWaitBehindAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pid")
	superdaemon := exec.Command("true")
	if err := superdaemon.Run(); err != nil {
		t.Fatal(err)
	}
	another := create(t, path, superdaemon.Process.Pid)
	fd, err := openRegular(path, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{PID: superdaemon.Process.Pid, file: File{path: path, descriptor: fd}}
	defer p.Close()
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := another.Remove(); err != nil {
		t.Error(err)
	}
}
