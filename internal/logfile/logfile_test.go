package logfile

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openT(t *testing.T, path string) int {
	t.Helper()
	fd, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func writeT(t *testing.T, fd int, text string) {
	t.Helper()
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func wantFlags(t *testing.T, fd int) {
	t.Helper()
	status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || status&unix.O_NONBLOCK != 0 || status&unix.O_APPEND == 0 {
		t.Errorf("status flags are %#x, %v; want O_APPEND and blocking mode", status, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags are %#x, %v; want FD_CLOEXEC", flags, err)
	}
}

func TestOpenAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	first, second := openT(t, path), openT(t, path)
	writeT(t, first, "one\n")
	writeT(t, second, "two\n")
	writeT(t, first, "three\n")
	if got, err := os.ReadFile(path); err != nil || string(got) != "one\ntwo\nthree\n" {
		t.Errorf("the log holds %q, %v", got, err)
	}
	wantFlags(t, first)
	if st, err := os.Stat(path); err != nil || st.Mode()&^0o644 != 0 {
		t.Errorf("mode is %v, %v; want 0644 less the umask", st.Mode(), err)
	}
}

func TestOpenFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "FIFO without a reader") {
		t.Errorf("Open without a reader: %v", err)
	}
	reader, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(reader)
	fd := openT(t, path)
	wantFlags(t, fd)
	writeT(t, fd, "line")
	b := make([]byte, 10)
	if n, err := unix.Read(reader, b); err != nil || string(b[:n]) != "line" {
		t.Errorf("read %q, %v", b[:max(n, 0)], err)
	}
}

func TestOpenSymbolicLink(t *testing.T) {
	for _, public := range []bool{false, true} {
		dir := t.TempDir()
		target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
		mode := os.FileMode(0o755)
		if public {
			mode = os.ModeSticky | 0o777
		}
		if err := errors.Join(os.Symlink(target, link), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		if !public {
			openT(t, link)
			continue
		}
		if _, err := Open(link); err == nil || !strings.Contains(err.Error(), "symbolic link in a world-writable directory") {
			t.Errorf("Open: %v", err)
		}
		if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the link was followed: %v", err)
		}
		openT(t, target)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]error{
		"": unix.ENOENT, dir: unix.EISDIR, filepath.Join(dir, "none", "log"): unix.ENOENT, filepath.Join(os.Args[0], "log"): unix.ENOTDIR,
	} {
		fd, err := Open(path)
		if fd != -1 || !errors.Is(err, want) || !strings.Contains(err.Error(), "open log file "+strconv.Quote(path)) {
			t.Errorf("Open(%q) = %d, %v; want %v", path, fd, err, want)
		}
	}
}

func TestCommand(t *testing.T) {
	for value, want := range map[string]string{
		"|cat": "cat", "| cat >>x y ": "cat >>x y ", " \t\v\n|\n cat": "cat", "||cat": "|cat", "|": "", " | ": "",
	} {
		if got, ok := Command(value); got != want || !ok {
			t.Errorf("Command(%q) = %q, %v; want %q", value, got, ok, want)
		}
	}
	for _, value := range []string{"", " ", "/x", "/x|cat", "x | cat"} {
		if got, ok := Command(value); got != "" || ok {
			t.Errorf("Command(%q) = %q, %v; want no command", value, got, ok)
		}
	}
}
