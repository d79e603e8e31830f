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
	atomicWrite  = 512             // bytes that a pipe takes at once on every system (PIPE_BUF of POSIX)
	retryLog     = time.Second     // between attempts to write them, and to start a log command that died
	logFarewell  = 3 * time.Second // the time to write the last lines, and for the log command to end
)

// patience is how long a step of the loop waits for a file system. If that takes longer, the work
// continues in the background.
const patience = 250 * time.Millisecond

// log is where the superdaemon's lines go, and the workers' output with them: standard error. With a
// log file or a log command, standard output and error become that. Any write may wait, for a
// terminal, a pipe, a file system, so lines are written in the background, and are kept meanwhile: a
// log that is stuck does not stop the deployments.
type log struct {
	file      string      // --log-file, if it is a file
	prefix    string      // of each line, see logfile.AppendPrefix
	fd        int         // the file, until it becomes standard output and error
	command   *logCommand // if --log-file is a command
	writer    *background.Runner
	writing   *batch // what the writer writes, nil for nothing
	unwritten []byte // whole lines, but for the first one if a part of it was written
	dropped   int    // lines that found no room in unwritten
	retryAt   time.Time
	reopening bool // the file is to be opened again when the writer has time
}

// batch is a number of lines that are being written.
type batch struct {
	lines   []byte
	written int // bytes
	err     error
}

// openLog opens the file or the pipe, without using it yet. wake is called when lines were written.
func openLog(value string, env []string, detached bool, wake func()) (*log, error) {
	l := &log{fd: -1, writer: background.New(wake)}
	if value == "" {
		return l, nil
	}
	var err error
	if command, piped := logfile.Command(value); piped {
		l.command, err = newLogCommand(command, env, detached)
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

// use makes the log the standard output and error of this process, after what was printed before has
// been written where it went until now.
func (l *log) use() error {
	if l.command == nil && l.fd < 0 {
		return nil
	}
	l.drain(logFarewell)
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

// redirect makes fd the standard output and error. These two numbers are the only ones that may be
// replaced in this process: the Go runtime owns the others.
func redirect(fd int) error {
	for _, std := range []int{stdout, stderr} {
		if err := process.Dup2(fd, std); err != nil {
			return fmt.Errorf("redirect the standard output to the log: %w", err)
		}
	}
	return nil
}

// reopen opens the log file again, so that a file that was renamed is left.
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
		l.print(fmt.Sprintf("opening the log file %q takes long", l.file))
	case err != nil:
		l.print(fmt.Sprintf("failed to reopen the log file %q: %v", l.file, err))
	}
}

// print writes a line as soon as that is possible. It never waits.
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

// flush takes note of what the writer has written, and has it write the rest.
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

// finish takes note of the end of a batch.
func (l *log) finish(b batch) {
	l.unwritten = l.unwritten[b.written:]
	switch b.err {
	case nil:
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG: // there may be room later
		l.retryAt = time.Now().Add(retryLog)
	default: // the terminal is gone, for example: these lines will never be read
		l.unwritten = nil
	}
}

// write writes the lines, in pieces that do not mix with what workers write at the same time. It
// waits as long as it takes.
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

// piece returns as many whole lines as can be written at once, but one at the least.
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

// drain waits until everything is written that can be, for limit at the most.
func (l *log) drain(limit time.Duration) {
	end := time.Now().Add(limit)
	for l.flush(); l.writer.Wait(time.Until(end)) && l.writing != nil; {
		l.flush()
	}
}

// onExit takes the death of a child, if it is the log command.
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

// close writes what can be written yet and ends the log command.
func (l *log) close() {
	if l.command != nil {
		l.command.prepareEnd()
	}
	l.drain(logFarewell)
	if l.command != nil {
		l.command.end()
	}
	l.writer.Close()
}

func (l *log) save(u *upgradeState) {
	u.Log = logState{Unwritten: l.unwritten, Dropped: l.dropped}
	if c := l.command; c != nil {
		u.Log.Pipe, u.Log.Output, u.Log.PID = c.pipe, c.output, c.pid
	}
}

// resumeLog continues with the log of the previous superdaemon: it is the standard output and error
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
