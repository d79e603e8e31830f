package pidfile

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/procfs"
)

// proveOpen returns an error unless the process with this pid in this pid namespace has the file of
// the descriptor open. If /proc/PID/fd cannot be read (a superdaemon of another user, or with file
// capabilities), /proc/locks has to name the process.
func proveOpen(descriptor, pid int) error {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("whether process %d has it open is unknown: /proc is not that of this pid namespace", pid)
	}
	open, err := hasOpen(pid, descriptor)
	locker := locker(descriptor)
	switch {
	case open, err != nil && locker == pid:
		return nil
	case locker > 0 && locker != pid:
		return fmt.Errorf("is locked by process %d", locker)
	case err != nil:
		return fmt.Errorf("whether process %d has it open is unknown: %w", pid, err)
	}
	return fmt.Errorf("process %d does not have it open; is start_server running in another pid namespace (a container)?", pid)
}

// hasOpen reports whether the process has the file of the descriptor open. If it is this process
// (as pid 1 of a container, for example), another descriptor is meant.
func hasOpen(pid, descriptor int) (bool, error) {
	var want, got unix.Stat_t
	if err := unix.Fstat(descriptor, &want); err != nil {
		return false, err
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	links, err := procfs.Names(dir)
	if err != nil {
		return false, err
	}
	for _, link := range links {
		if pid == os.Getpid() && link == strconv.Itoa(descriptor) {
			continue
		}
		if unix.Stat(dir+"/"+link, &got) == nil && got.Dev == want.Dev && got.Ino == want.Ino {
			return true, nil
		}
	}
	return false, nil
}

// locker returns the process that holds a write lock by flock(2) on the file according to
// proc_locks(5), or 0 if that is unknown (another pid namespace, a file system whose device there
// is not the one that stat(2) returns).
func locker(fd int) int {
	var st unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstat(fd, &st) != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), st.Ino)
	return findLocker(string(locks), file)
}

// findLocker reads lines like "1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF"; "->" after the
// number marks a process that waits.
func findLocker(locks, file string) int {
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) > 5 && f[1] == "FLOCK" && f[3] == "WRITE" && f[5] == file {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}
