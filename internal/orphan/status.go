package orphan

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/status"
)

// leftStatus is the content of a status file that a superdaemon has left.
type leftStatus struct {
	generations map[int]int // by pid
	written     time.Time
}

// readStatus reads the status file. It returns an empty leftStatus if the file cannot be trusted.
func readStatus(file string) leftStatus {
	s := leftStatus{generations: map[int]int{}}
	info, err := os.Lstat(file)
	if file == "" || err != nil || !trusted(file) {
		return s
	}
	workers, err := status.Read(file)
	if err != nil {
		return s
	}
	s.written = info.ModTime()
	for _, w := range workers {
		s.generations[w.PID] = w.Generation
	}
	return s
}

// trusted reports whether only this user and root can have written the file.
func trusted(file string) bool {
	var st unix.Stat_t
	err := unix.Lstat(file, &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o022 == 0 &&
		(st.Uid == 0 || int(st.Uid) == os.Geteuid())
}
