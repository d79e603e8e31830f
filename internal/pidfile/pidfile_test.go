package pidfile

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func create(t *testing.T, path string, pid int) *File {
	t.Helper()
	f, err := Create(path, pid)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Fatalf("%s holds %q, %v; want %q", path, got, err, want)
	}
}

func TestCreateWritesLocksAndRemoves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(path, []byte("a stale and longer content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := create(t, path, 123)
	wantContent(t, path, "123\n")
	if flags, err := unix.FcntlInt(uintptr(f.Descriptor()), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags are %#x, %v; want FD_CLOEXEC", flags, err)
	}
	_, err := Create(path, 456)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Path != path || locked.PID != 123 && locked.PID != os.Getpid() {
		t.Errorf("second Create: %v", err)
	}
	wantContent(t, path, "123\n")
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
	if err := create(t, path, 456).Remove(); err != nil {
		t.Error(err)
	}
}

func TestRemoveKeepsAnotherFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	first := create(t, path, 1)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := create(t, path, 2)
	if err := first.Remove(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, path, "2\n")
	if err := second.Remove(); err != nil {
		t.Fatal(err)
	}
}

func TestAdoptKeepsTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	// The duplicate is what a program finds after an exec: the same lock, close-on-exec off.
	f := create(t, path, 7)
	fd, err := unix.Dup(f.Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(f.Descriptor())
	adopted := Adopt(path, fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags are %#x, %v; want FD_CLOEXEC", flags, err)
	}
	if _, err := Create(path, 8); err == nil {
		t.Error("the lock is lost")
	}
	if err := adopted.Remove(); err != nil {
		t.Error(err)
	}
}

// odd makes three files that are not regular ones. The target of the link holds "precious".
func odd(t *testing.T) (fifo, link, dir string) {
	t.Helper()
	top := t.TempDir()
	fifo, link, dir = filepath.Join(top, "fifo"), filepath.Join(top, "link"), filepath.Join(top, "dir")
	target := filepath.Join(top, "target")
	err := errors.Join(unix.Mkfifo(fifo, 0o600), os.Mkdir(dir, 0o700), os.WriteFile(target, []byte("precious"), 0o600), os.Symlink(target, link))
	if err != nil {
		t.Fatal(err)
	}
	return fifo, link, dir
}

func TestCreateRejectsOtherFiles(t *testing.T) {
	fifo, link, dir := odd(t)
	for path, want := range map[string]string{
		fifo: "not a regular file", link: "symbolic link", dir: "is a directory", "/dev/null": "not a regular file",
		filepath.Join(dir, "none", "pid"): "no such file",
	} {
		f, err := Create(path, 1)
		if err == nil || f != nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), strconv.Quote(path)) {
			t.Errorf("Create(%q) = %v, %v; want an error with %q", path, f, err, want)
		}
	}
	wantContent(t, link, "precious")
}

// locked writes text into a file and keeps it locked.
func locked(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pid")
	f := create(t, path, 1)
	t.Cleanup(func() { f.Remove() })
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	f := create(t, path, os.Getpid())
	p, err := Holder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.PID != os.Getpid() {
		t.Errorf("PID = %d, want %d", p.PID, os.Getpid())
	}
	if gone, err := p.Gone(); gone || err != nil {
		t.Errorf("Gone() = %v, %v while the lock is held", gone, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if gone, err := p.Gone(); gone || err != nil {
		t.Errorf("Gone() = %v, %v while the lock is held on a deleted file", gone, err)
	}
	waited := make(chan error)
	go func() { waited <- p.Wait(t.Context()) }()
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if gone, err := p.Gone(); !gone || err != nil {
		t.Errorf("Gone() = %v, %v after the end", gone, err)
	}
}

func TestGoneWhenReplaced(t *testing.T) {
	path := locked(t, strconv.Itoa(os.Getpid()))
	p, err := Holder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	defer create(t, path, os.Getpid()).Remove()
	if gone, err := p.Gone(); !gone || err != nil {
		t.Errorf("Gone() = %v, %v with another file in its place", gone, err)
	}
}

func TestHolderErrors(t *testing.T) {
	stale := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(stale, []byte("123\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	fifo, _, dir := odd(t)
	for path, want := range map[string]string{
		stale:                              `holds "123\n", but is not locked`,
		locked(t, ""):                      `holds "", which is not a pid`,
		locked(t, "0\n"):                   `holds "0\n", which is not a pid`,
		locked(t, "-1\n"):                  `holds "-1\n", which is not a pid`,
		locked(t, "+5\n"):                  `holds "+5\n", which is not a pid`,
		locked(t, "12x\n"):                 `holds "12x\n", which is not a pid`,
		locked(t, "99999999999\n"):         `holds "99999999999\n", which is not a pid`,
		locked(t, "2147483647\n"):          `but there is no such process`,
		fifo:                               "not a regular file",
		dir:                                "not a regular file",
		filepath.Join(t.TempDir(), "none"): "no such file",
	} {
		p, err := Holder(path)
		if err == nil || p != nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), strconv.Quote(path)) {
			t.Errorf("Holder(%q) = %v, %v; want an error with %q", path, p, err, want)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]int{"1\n": 1, "123": 123, "123\n456\n": 123, "": 0, "0\n": 0, "-5\n": 0, "1 \n": 0} {
		if pid, ok := parse(text); ok != (want > 0) || ok && pid != want {
			t.Errorf("parse(%q) = %d, %v; want %d", text, pid, ok, want)
		}
	}
}
