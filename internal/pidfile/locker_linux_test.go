package pidfile

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHolderKnowsTheLocker(t *testing.T) {
	path := locked(t, strconv.Itoa(os.Getppid())+"\n")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, err = Holder(path)
	switch locker(fd) {
	case 0: // unknown on this file system
		if err == nil || !strings.Contains(err.Error(), "does not have it open") {
			t.Errorf("Holder = %v, want an error: the parent does not have the file open", err)
		}
	case os.Getpid():
		if err == nil || !strings.Contains(err.Error(), "locked by process "+strconv.Itoa(os.Getpid())) {
			t.Errorf("Holder = %v, want an error that names the locker", err)
		}
	default:
		t.Errorf("locker = %d, want %d", locker(fd), os.Getpid())
	}
}

func TestFindLocker(t *testing.T) {
	const locks = `1: POSIX  ADVISORY  WRITE 11 fd:01:5678 0 EOF
2: FLOCK  ADVISORY  READ  12 fd:01:5678 0 EOF
3: FLOCK  ADVISORY  WRITE 13 fd:02:5678 0 EOF
3: -> FLOCK  ADVISORY  WRITE 14 fd:01:5678 0 EOF
4: FLOCK  ADVISORY  WRITE 15 fd:01:5678 0 EOF
broken
`
	for file, want := range map[string]int{"fd:01:5678": 15, "fd:02:5678": 13, "fd:03:5678": 0} {
		if got := findLocker(locks, file); got != want {
			t.Errorf("findLocker(%q) = %d, want %d", file, got, want)
		}
	}
}

// TestHolderInAnotherNamespace asks in a pid namespace in which the holder of the lock has no pid,
// and the number in the file is that of an unrelated process.
func TestHolderInAnotherNamespace(t *testing.T) {
	t.Parallel()
	if os.Getenv("PIDFILE_TEST_HOLDER") != "" {
		_, err := Holder(os.Getenv("PIDFILE_TEST_HOLDER"))
		if err == nil || !strings.Contains(err.Error(), `holds "1\n", but process 1 does not have it open`) {
			t.Errorf("Holder = %v, want an error: process 1 does not have the file open", err)
		}
		return
	}
	if exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").Run() != nil {
		t.Skip("cannot make a pid namespace")
	}
	path := locked(t, "1\n")
	for _, shell := range []string{`exec "$@"`, `"$@"; exit $?`} { // the process that asks is pid 1, or is not
		cmd := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", shell, "sh", os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "PIDFILE_TEST_HOLDER="+path)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}
