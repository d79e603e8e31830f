package starter

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/background"
	"github.com/start-server/start-server/internal/logfile"
	"github.com/start-server/start-server/internal/process"
)

const (
	stdout = 1
	stderr = 2
)

const (
	maxUnwritten = 64 << 10        // bytes of log lines that wait to be written
	atomicWrite  = 512             // bytes that a pipe accepts at once on every system (PIPE_BUF of POSIX)
	retryLog     = time.Second     // between attempts to write them, and to start a log command that died
	logEndTime   = 3 * time.Second // to write the last lines, and for the log command to end
)

// patience is how long a step of the loop waits for a file system.
const patience = background.Patience

// log writes the lines of the superdaemon to standard error, which the workers use as well. With a
// log file or a log command, standard output and error become that. Any write may block on a
// terminal, a pipe or a file system, so lines are kept and written in the background: a log that is
// stuck does not stop deployments.
type log struct {
	file      string      // --log-file, if it is a file
	prefix    string      // of each line, see logfile.AppendPrefix
	fd        int         // the file, until it becomes standard output and error
	command   *logCommand // if --log-file is a command
	writer    *background.Runner
	writing   *batch // being written, or nil
	unwritten []byte // whole lines, except the first one if a part of it was written
	dropped   int    // lines for which unwritten had no room
	retryAt   time.Time
	reopening bool // reopen the file when the writer is idle
}

// batch is a number of lines to write at once.
type batch struct {
	lines   []byte
	written int // bytes
	err     error
}

// openLog opens the file or the pipe, without using it yet. env returns the environment of a log
// command, and wake is called after lines were written.
func openLog(value string, env func() []string, detached bool, wake func()) (*log, error) {
	l := &log{fd: -1, writer: background.New(wake)}
	if value == "" {
		return l, nil
	}
	var err error
	if command, piped := logfile.Command(value); piped {
		l.command, err = newLogCommand(command, env(), detached)
	} else {
		l.file = value
		l.fd, err = logfile.Open(value)
	}
	if err != nil {
		l.writer.Close()
		return nil, err
	}
	return l, nil
}

// use makes the log the standard output and error of this process. First it writes earlier lines to
// the present standard error.
func (l *log) use() error {
	if l.command == nil && l.fd < 0 {
		return nil
	}
	l.drain(logEndTime)
	switch {
	case l.command != nil:
		if err := l.command.start(); err != nil {
			return err
		}
		return redirect(l.command.pipe[1])
	case l.fd >= 0:
		err := redirect(l.fd)
		unix.Close(l.fd)
		l.fd = -1
		return err
	}
	return nil
}

// redirect makes fd the standard output and error. Only these two descriptors may be replaced in
// this process: the Go runtime owns the others.
func redirect(fd int) error {
	for _, std := range []int{stdout, stderr} {
		if err := process.Dup2(fd, std); err != nil {
			return fmt.Errorf("redirect standard output to the log: %w", err)
		}
	}
	return nil
}

// reopen opens the log file again, in case it was renamed.
func (l *log) reopen() {
	if l.file == "" {
		return
	}
	l.drain(patience)
	l.reopening = true
	l.runReopen()
}

func (l *log) runReopen() {
	if !l.reopening || !l.writer.Idle() {
		return
	}
	l.reopening = false
	var err error
	ended := l.writer.Run(func() {
		var fd int
		if fd, err = logfile.Open(l.file); err == nil {
			err = redirect(fd)
			unix.Close(fd)
		}
	}, patience)
	switch {
	case !ended:
		l.print(msgLogFileSlow(l.file))
	case err != nil:
		l.print(msgLogFileNotReopened(l.file, err))
	}
}

// print writes a line as soon as possible. It never blocks.
func (l *log) print(line string) {
	if len(l.unwritten) > maxUnwritten {
		l.dropped++
		return
	}
	if l.dropped > 0 {
		l.unwritten = l.appendLine(l.unwritten, fmt.Sprintf("dropped %d log lines: the log reader was too slow", l.dropped))
		l.dropped = 0
	}
	l.unwritten = l.appendLine(l.unwritten, line)
	l.flush()
}

func (l *log) appendLine(lines []byte, line string) []byte {
	return append(append(logfile.AppendPrefix(lines, l.prefix), line...), '\n')
}

// flush records what the writer has written, and has it write the rest.
func (l *log) flush() {
	if !l.writer.Idle() {
		return
	}
	if l.writing != nil {
		l.finish(*l.writing)
		l.writing = nil
	}
	if len(l.unwritten) > 0 && time.Until(l.retryAt) <= 0 {
		l.writing = &batch{lines: l.unwritten}
		l.writer.Run(l.writing.write, 0)
	}
}

// finish records the result of a batch.
func (l *log) finish(b batch) {
	l.unwritten = l.unwritten[b.written:]
	switch b.err {
	case nil:
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG: // there may be space later
		l.retryAt = time.Now().Add(retryLog)
	default: // for example, the terminal is gone: these lines can never be written
		l.unwritten = nil
	}
}

// write writes the lines, in pieces that do not mix with the output of workers. It blocks as long
// as necessary.
func (b *batch) write() {
	for b.written < len(b.lines) {
		n, err := unix.Write(stderr, piece(b.lines[b.written:]))
		b.written += max(n, 0)
		switch err {
		case nil, unix.EINTR:
		case unix.EAGAIN: // another process has made it non-blocking
			_, _ = unix.Poll([]unix.PollFd{{Fd: stderr, Events: unix.POLLOUT}}, -1)
		default:
			b.err = err
			return
		}
	}
}

// piece returns as many whole lines as can be written at once, and at least one.
func piece(lines []byte) []byte {
	end := bytes.IndexByte(lines, '\n') + 1
	for {
		next := bytes.IndexByte(lines[end:], '\n') + 1
		if next == 0 || end+next > atomicWrite {
			return lines[:end]
		}
		end += next
	}
}

// drain waits at most limit until all lines that can be written are written.
func (l *log) drain(limit time.Duration) {
	end := time.Now().Add(limit)
	for l.flush(); l.writer.Wait(time.Until(end)) && l.writing != nil; {
		l.flush()
	}
}

// onExit handles the death of a child if it is the log command, and reports whether it is.
func (l *log) onExit(pid int) bool { return l.command != nil && l.command.onExit(pid) }

// runPending starts the log command again if it died, and writes what is unwritten.
func (l *log) runPending() time.Duration {
	l.runReopen()
	l.flush()
	var wait time.Duration
	if len(l.unwritten) > 0 && l.writing == nil {
		wait = max(time.Until(l.retryAt), 1)
	}
	if l.command == nil {
		return wait
	}
	restart, err := l.command.keepRunning()
	if err != nil {
		l.print(err.Error())
	}
	if restart > 0 && (wait == 0 || restart < wait) {
		wait = restart
	}
	return wait
}

// close writes the remaining lines, if possible, and ends the log command.
func (l *log) close() {
	if l.command != nil {
		l.command.prepareEnd()
	}
	l.drain(logEndTime)
	if l.command != nil {
		l.command.end()
	}
	if l.fd >= 0 {
		unix.Close(l.fd)
		l.fd = -1
	}
	l.writer.Close()
}

func (l *log) save(u *upgradeState) {
	u.Log = logState{Unwritten: l.unwritten, Dropped: l.dropped}
	if c := l.command; c != nil {
		u.Log.Pipe, u.Log.Output, u.Log.PID = c.pipe, c.output, c.pid
	}
}

// resumeLog returns the log of the previous superdaemon, which is the standard output and error
// already.
func resumeLog(value string, env []string, s logState, wake func()) *log {
	l := &log{fd: -1, writer: background.New(wake), unwritten: s.Unwritten, dropped: s.Dropped}
	if command, piped := logfile.Command(value); piped {
		l.command = &logCommand{command: command, env: env, pipe: s.Pipe, output: s.Output, pid: s.PID}
	} else {
		l.file = value
	}
	return l
}
