package starter

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/statusfile"
)

// retryStatus is the time between attempts to write the status file.
const retryStatus = time.Second

// status keeps the status file, and writes it again if that failed.
type status struct {
	path    string // "" for none
	workers []statusfile.Worker
	written bool      // the file exists and is ours to remove
	retryAt time.Time // zero if the file is up to date
	warned  string    // the latest error that was reported
	report  func(line string)
}

func newStatus(path string, report func(line string)) *status {
	return &status{path: path, report: report}
}

// write replaces the status file. If that fails, it reports the error once and tries again later.
func (s *status) write(workers []statusfile.Worker) {
	if s.path == "" {
		return
	}
	s.workers = workers
	err := statusfile.Write(s.path, workers)
	if err == nil {
		s.written, s.retryAt, s.warned = true, time.Time{}, ""
		return
	}
	s.retryAt = time.Now().Add(retryStatus)
	if err.Error() != s.warned {
		s.report(err.Error())
	}
	s.warned = err.Error()
}

// runPending repeats an attempt that failed.
func (s *status) runPending() time.Duration {
	if s.retryAt.IsZero() {
		return 0
	}
	if time.Until(s.retryAt) <= 0 {
		s.write(s.workers)
	}
	if s.retryAt.IsZero() {
		return 0
	}
	return max(time.Until(s.retryAt), 1)
}

// removeStale removes the status file of a superdaemon that was killed: it is no longer true, and
// --restart would wait for a generation that never comes. It returns the processes that the file
// names and that exist.
func (s *status) removeStale() (left []int) {
	var st unix.Stat_t
	err := unix.Lstat(s.path, &st)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() { // another user's file is not trusted
		return nil
	}
	workers, _ := statusfile.Read(s.path)
	for _, w := range workers {
		if w.PID > 0 && unix.Kill(w.PID, 0) != unix.ESRCH {
			left = append(left, w.PID)
		}
	}
	_ = unix.Unlink(s.path)
	return left
}

func (s *status) remove() {
	if s.written {
		_ = unix.Unlink(s.path)
	}
}

func (s *status) save(u *upgradeState) {
	u.StatusWritten, u.StatusPending = s.written, !s.retryAt.IsZero()
}

// resume repeats an attempt that the previous superdaemon could not make.
func (s *status) resume(u *upgradeState, workers []statusfile.Worker) {
	s.workers, s.written = workers, u.StatusWritten
	if u.StatusPending {
		s.retryAt = time.Now()
	}
}
