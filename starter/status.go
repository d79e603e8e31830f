package starter

import (
	"bytes"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/background"
	"github.com/start-server/start-server/internal/statusfile"
)

// retryStatus is the time between attempts to write the status file.
const retryStatus = time.Second

// statusFiles are the status files: that of Server::Starter, and the one in JSON.
type statusFiles struct{ plain, json *status }

// status keeps a status file up to date. It writes it in the background, since a file system may
// hang, and tries again if that fails.
type status struct {
	path    string // "" for none
	report  func(line string)
	writer  *background.Runner
	latest  []byte
	due     bool      // latest is not written yet
	writing *error    // the result of the attempt under way, nil for none
	written bool      // the file exists, and is to be removed at the end
	retryAt time.Time // after a failure
	warned  string    // the last error that was reported
}

// newStatus returns a status that calls wake when an attempt to write has ended.
func newStatus(path string, wake func(), report func(line string)) *status {
	s := &status{path: path, report: report}
	if path != "" {
		s.writer = background.New(wake)
	}
	return s
}

// write replaces the status file if it does not hold this text. If that takes long, it continues in
// the background, and writes the latest text in the end. If it fails, it reports the error once and
// tries again later.
func (s *status) write(text []byte) {
	if s.path == "" || bytes.Equal(text, s.latest) {
		return
	}
	s.latest, s.due, s.retryAt = text, true, time.Time{}
	s.update()
}

// update handles the result of the last attempt, and makes the next one if it is due.
func (s *status) update() {
	if s.path == "" || !s.writer.Idle() {
		return
	}
	if s.writing != nil {
		s.finish(*s.writing)
	}
	if !s.due || time.Until(s.retryAt) > 0 {
		return
	}
	s.due, s.writing = false, new(error)
	path, text, result := s.path, s.latest, s.writing
	if s.writer.Run(func() { *result = statusfile.Replace(path, text) }, patience) {
		s.finish(*s.writing)
	}
}

// finish handles the result of an attempt.
func (s *status) finish(err error) {
	s.writing = nil
	if err == nil {
		s.written, s.warned = true, ""
		return
	}
	s.due, s.retryAt = true, time.Now().Add(retryStatus)
	if err.Error() != s.warned {
		s.report(err.Error())
	}
	s.warned = err.Error()
}

// runPending repeats an attempt that failed.
func (s *status) runPending() time.Duration {
	s.update()
	if !s.due || s.writing != nil {
		return 0
	}
	return max(time.Until(s.retryAt), 1)
}

// removeStale removes the status file of a superdaemon that was killed. It is out of date, and
// --restart would wait for a generation that never comes.
func (s *status) removeStale() {
	if s.stale() {
		_ = unix.Unlink(s.path)
	}
}

// stale reports whether there is a status file that another superdaemon has left.
func (s *status) stale() bool {
	var st unix.Stat_t
	err := unix.Lstat(s.path, &st)
	trusted := int(st.Uid) == os.Geteuid()
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && trusted
}

// others returns the existing processes that a stale status file names, without the workers that
// were adopted.
func (s *status) others(old []*worker) (left []int) {
	if !s.stale() {
		return nil
	}
	workers, _ := statusfile.Read(s.path)
	for _, w := range workers {
		known := slices.ContainsFunc(old, func(o *worker) bool { return o.PID == w.PID })
		if w.PID > 0 && !known && unix.Kill(w.PID, 0) != unix.ESRCH {
			left = append(left, w.PID)
		}
	}
	return left
}

// close removes the file, unless it never existed or its file system hangs.
func (s *status) close() {
	if s.path == "" {
		return
	}
	if s.writer.Wait(patience) {
		s.writer.Run(func() {
			if s.written || s.writing != nil && *s.writing == nil {
				_ = unix.Unlink(s.path)
			}
		}, patience)
	}
	s.writer.Close()
}

func (s *status) save(u *upgradeState) {
	u.StatusWritten, u.StatusPending = s.written, s.due || s.writing != nil
}

// resume repeats an attempt that the previous superdaemon could not make.
func (s *status) resume(u *upgradeState, text []byte) {
	s.latest, s.written, s.due = text, u.StatusWritten, u.StatusPending
}

// report returns the JSON status.
func (s *supervisor) report(pid int, version string) statusfile.Report {
	r := statusfile.Report{
		Superdaemon: statusfile.Superdaemon{PID: pid, Version: version, Started: s.FirstStep, Phase: s.phaseWord()},
		Workers:     []statusfile.WorkerReport{},
		LastRestart: s.Restart.report(),
	}
	for _, w := range s.workers() {
		if !w.Dead {
			r.Workers = append(r.Workers, w.report(w == s.Candidate))
		}
	}
	return r
}

func (s *supervisor) phaseWord() string {
	if s.StopAt > 0 {
		return "stopping"
	}
	return [...]string{starting: "starting", running: "running", delaying: "delaying", stopping: "stopping", stopped: "stopping"}[s.Phase]
}

func (w *worker) report(candidate bool) statusfile.WorkerReport {
	state := "serving"
	switch {
	case w.StopSent:
		state = "stopping"
	case candidate:
		state = "starting"
	}
	return statusfile.WorkerReport{PID: w.PID, Generation: w.Generation, State: state, Since: w.Since, Status: w.StatusText}
}

// report returns the restart in the form of the JSON status, nil for the first start.
func (r restart) report() *statusfile.Restart {
	if r.Number == 0 {
		return nil
	}
	report := &statusfile.Restart{Number: r.Number, Result: string(r.Result), Generation: r.Generation, Attempts: r.Attempts, Reason: r.Reason}
	if r.Result != inProgress {
		seconds := (r.EndedAt - r.BeganAt).Truncate(time.Millisecond).Seconds()
		report.Duration = &seconds
	}
	return report
}
