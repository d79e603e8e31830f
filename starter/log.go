package starter

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/logfile"
	"github.com/start-server/start-server/internal/process"
)

const (
	stdout = 1
	stderr = 2
)

const (
	maxUnwritten = 64 << 10        // bytes of log lines that wait for somebody to read
	retryLog     = time.Second     // between tries to write them, and to start a log command that died
	logFarewell  = 3 * time.Second // the log command is given so long to end
	pipeBuf      = 4096            // what a writable pipe takes at once, at least
)

// log is where the superdaemon's lines go, and the workers' output with them:
// standard error. With a log file or a log command, standard output and error
// are made to be that. Writing never waits: lines that nobody reads are kept, so
// that a log which is stuck does not stop the deployments.
type log struct {
	file      string   // --log-file, where it is a file
	Command   string   // or where it is a command
	env       []string // of the command
	fd        int      // the file, until it becomes stdout and stderr
	Pipe      [2]int   // to the command; the reading end is held so that nothing is lost while it is started again
	Output    [2]int   // the command's own stdout and stderr
	PID       int      // of the command, 0 while there is none
	startedAt time.Time
	unwritten []byte
	dropped   int // lines
}

// openLog opens the file or the pipe, without using it yet.
func openLog(value string, env []string, detached bool) (*log, error) {
	l := &log{fd: -1, env: env}
	if value == "" {
		return l, nil
	}
	command, piped := logfile.Command(value)
	if !piped {
		fd, err := logfile.Open(value)
		if err != nil {
			return nil, err
		}
		l.file, l.fd = value, fd
		return l, nil
	}
	l.Command = command
	var err error
	if l.Pipe[0], l.Pipe[1], err = process.Pipe(); err != nil {
		return nil, fmt.Errorf("make a pipe for the log command %q: %w", command, err)
	}
	for i, fd := range []int{stdout, stderr} {
		saved, err := saveOutput(fd, detached)
		if err != nil {
			return nil, fmt.Errorf("start the log command %q: %w", command, err)
		}
		l.Output[i] = saved
	}
	return l, nil
}

// saveOutput is where the log command's own output goes: where ours went, or nowhere for a
// detached superdaemon, as the terminal is not to wait for the log command.
func saveOutput(fd int, detached bool) (int, error) {
	if detached {
		return unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	}
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
}

// use makes the log the standard output and error of this process.
func (l *log) use() error {
	if l.Command != "" {
		if err := l.startCommand(); err != nil {
			return err
		}
		return redirect(l.Pipe[1])
	}
	if l.fd < 0 {
		return nil
	}
	err := redirect(l.fd)
	unix.Close(l.fd)
	l.fd = -1
	return err
}

// redirect makes fd our standard output and error. These two numbers are the
// only ones that may be replaced in this process: the Go runtime owns the others.
func redirect(fd int) error {
	for _, std := range []int{stdout, stderr} {
		if err := process.Dup2(fd, std); err != nil {
			return fmt.Errorf("redirect the standard output to the log: %w", err)
		}
	}
	return nil
}

// reopen opens the log file anew, so that one that was renamed is left.
func (l *log) reopen() {
	if l.file == "" {
		return
	}
	fd, err := logfile.Open(l.file)
	if err != nil {
		l.print(fmt.Sprintf("failed to open the log file %q anew: %v", l.file, err))
		return
	}
	l.fd = fd
	if err := l.use(); err != nil {
		l.print(err.Error())
	}
}

func (l *log) startCommand() error {
	l.startedAt = time.Now()
	pid, err := process.Start(process.Spec{
		Args:  []string{"/bin/sh", "-c", l.Command},
		Files: []uintptr{uintptr(l.Pipe[0]), uintptr(l.Output[0]), uintptr(l.Output[1])},
		Env:   l.env,
	})
	l.PID = pid
	if err != nil {
		return fmt.Errorf("start the log command %q: %w", l.Command, err)
	}
	return nil
}

// onExit takes note of the death of a child, if it is the log command.
func (l *log) onExit(pid int) bool {
	if pid != l.PID || pid == 0 {
		return false
	}
	l.PID = 0
	return true
}

// chores starts the log command again and writes what was unwritten. It
// says when to call again, 0 for not at all.
func (l *log) runPending() time.Duration {
	var wait time.Duration
	if l.Command != "" && l.PID == 0 {
		if wait = retryLog - time.Since(l.startedAt); wait <= 0 {
			wait = 0
			if err := l.startCommand(); err != nil {
				l.print(err.Error())
				wait = retryLog
			}
		}
	}
	if !l.write() {
		return retryLog
	}
	return wait
}

func (l *log) print(line string) {
	if len(l.unwritten) > maxUnwritten {
		l.dropped++
		return
	}
	if l.dropped > 0 {
		l.unwritten = fmt.Appendf(l.unwritten, "%d lines were lost, as nobody read the log\n", l.dropped)
		l.dropped = 0
	}
	l.unwritten = append(append(l.unwritten, line...), '\n')
	l.write()
}

// write writes what can be written without waiting, and tells whether that was all.
func (l *log) write() bool {
	for len(l.unwritten) > 0 {
		if !writable(0) {
			return false
		}
		line := l.unwritten[:bytes.IndexByte(l.unwritten, '\n')+1]
		n, err := unix.Write(stderr, line[:min(len(line), pipeBuf)])
		switch err {
		case nil:
			l.unwritten = l.unwritten[n:]
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOSPC, unix.EDQUOT, unix.EFBIG: // there may be room later
			return false
		default: // the terminal is gone, say: nobody will ever read this
			l.unwritten = nil
		}
	}
	return true
}

// writable waits until standard error takes a line, for so long at most.
func writable(timeout time.Duration) bool {
	poll := []unix.PollFd{{Fd: stderr, Events: unix.POLLOUT}}
	n, err := unix.Poll(poll, int(timeout.Milliseconds()))
	return n > 0 || err != nil && err != unix.EINTR
}

// close writes what can be written yet, gives the log command its end of file and waits for
// it, a bounded time: others may hold the pipe as well.
func (l *log) close() {
	if !l.write() && writable(logFarewell) {
		l.write()
	}
	if l.Command == "" || l.startedAt.IsZero() && l.PID == 0 { // never in use
		return
	}
	if l.PID == 0 { // what is in the pipe wants a reader yet
		_ = l.startCommand()
	}
	_ = redirectTo(l.Output)
	unix.Close(l.Pipe[1])
	unix.Close(l.Pipe[0])
	for end := time.Now().Add(logFarewell); l.PID != 0 && time.Now().Before(end); {
		pid, _, ok := process.Reap()
		if !ok {
			time.Sleep(5 * time.Millisecond)
		}
		l.onExit(pid)
	}
}

func redirectTo(output [2]int) error {
	if err := process.Dup2(output[0], stdout); err != nil {
		return err
	}
	return process.Dup2(output[1], stderr)
}

// state is what goes on of the log when the superdaemon is replaced.
func (l *log) state() logState {
	return logState{Pipe: l.Pipe, Output: l.Output, PID: l.PID, Unwritten: l.unwritten, Dropped: l.dropped}
}

// resumeLog goes on with the log of a predecessor: it is our standard output
// and error already.
func resumeLog(value string, env []string, s logState) *log {
	l := &log{fd: -1, env: env, Pipe: s.Pipe, Output: s.Output, PID: s.PID, unwritten: s.Unwritten, dropped: s.Dropped}
	if command, piped := logfile.Command(value); piped {
		l.Command = command
	} else {
		l.file = value
	}
	return l
}

func (l *log) save(u *upgradeState) { u.Log = l.state() }
