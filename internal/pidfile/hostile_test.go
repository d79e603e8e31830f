package pidfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCreateHardLink checks that a pid file is not written through a hard link, which another user
// can have made to a file of this user in a world-writable directory.
func TestCreateHardLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	precious, path := filepath.Join(dir, "precious"), filepath.Join(dir, "pid")
	if err := os.WriteFile(precious, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(precious, path); err != nil {
		t.Fatal(err)
	}
	if f, err := Create(path, os.Getpid()); err == nil {
		_ = f.Remove()
		t.Error("Create accepts a hard link")
	} else if !strings.Contains(err.Error(), "hard link") {
		t.Error(err)
	}
	if text, err := os.ReadFile(precious); string(text) != "precious" || err != nil {
		t.Errorf("the file holds %q (%v)", text, err)
	}
}

// TestWaitBehindAnother checks that Wait returns if another process takes the lock as soon as the
// superdaemon ends.
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
