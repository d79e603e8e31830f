package status

import (
	"bytes"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/background"
	"github.com/start-server/start-server/internal/deadline"
)

// retryStatus is the time between attempts to write the status file.
const retryStatus = time.Second

// File keeps a status file up to date. It writes it in the background, since a file system may
// hang, and tries again if that fails.
type File struct {
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

// NewFile returns a File that calls wake when an attempt to write has ended.
func NewFile(path string, wake func(), report func(line string)) *File {
	f := &File{path: path, report: report}
	if path != "" {
		f.writer = background.New(wake)
	}
	return f
}

// Write replaces the status file if it does not hold this text. If that takes long, it continues in
// the background, and writes the latest text in the end. If it fails, it reports the error once and
// tries again later.
func (f *File) Write(text []byte) {
	if f.path == "" || bytes.Equal(text, f.latest) {
		return
	}
	f.latest, f.due, f.retryAt = text, true, time.Time{}
	f.update()
}

// update handles the result of the last attempt, and makes the next one if it is due.
func (f *File) update() {
	if f.path == "" || !f.writer.Idle() {
		return
	}
	if f.writing != nil {
		f.finish(*f.writing)
	}
	if !f.due || time.Until(f.retryAt) > 0 {
		return
	}
	f.due, f.writing = false, new(error)
	path, text, result := f.path, f.latest, f.writing
	if f.writer.Run(func() { *result = Replace(path, text) }, background.Patience) {
		f.finish(*f.writing)
	}
}

// finish handles the result of an attempt.
func (f *File) finish(err error) {
	f.writing = nil
	if err == nil {
		f.written, f.warned = true, ""
		return
	}
	f.due, f.retryAt = true, time.Now().Add(retryStatus)
	if err.Error() != f.warned {
		f.report(err.Error())
	}
	f.warned = err.Error()
}

// RunPending repeats an attempt that failed. It returns the time until it has to be called again.
func (f *File) RunPending() time.Duration {
	f.update()
	if !f.due || f.writing != nil {
		return deadline.Never
	}
	return max(time.Until(f.retryAt), 1)
}

// RemoveStale removes the status file of a superdaemon that was killed. It is out of date, and
// --restart would wait for a generation that never comes.
func (f *File) RemoveStale() {
	var st unix.Stat_t
	if unix.Lstat(f.path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && int(st.Uid) == os.Geteuid() {
		_ = unix.Unlink(f.path)
	}
}

// Close removes the file, unless it never existed or its file system hangs.
func (f *File) Close() {
	if f.path == "" {
		return
	}
	if f.writer.Wait(background.Patience) {
		f.writer.Run(func() {
			if f.written || f.writing != nil && *f.writing == nil {
				_ = unix.Unlink(f.path)
			}
		}, background.Patience)
	}
	f.writer.Close()
}

// State returns whether the file exists, and whether its latest text still has to be written.
func (f *File) State() (written, pending bool) { return f.written, f.due || f.writing != nil }

// Resume continues from the State of the previous superdaemon, with the text that it wrote or could
// not write.
func (f *File) Resume(written, pending bool, text []byte) {
	f.latest, f.written, f.due = text, written, pending
}
