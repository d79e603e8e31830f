// Package output writes the log of the superdaemon: to standard error, to a file, or to a command.
package output

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/background"
	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/lines"
	"github.com/start-server/start-server/internal/logfile"
	"github.com/start-server/start-server/internal/process"
)

const (
	maxUnwritten = 64 << 10        // bytes of log lines that wait to be written
	atomicWrite  = 512             // bytes that a pipe accepts at once on every system (PIPE_BUF of POSIX)
	retryLog     = time.Second     // between attempts to write them, and to start a log command that died
	logEndTime   = 3 * time.Second // to write the last lines, and for the log command to end
)

// Output writes the lines of the superdaemon to standard error, which the workers use as well. With a
// log file or a log command, standard output and error become that. Any write may block on a
// terminal, a pipe or a file system, so lines are kept and written in the background: a log that is
// stuck does not stop deployments.
type Output struct {
	file      string   // --log-file, if it is a file
	prefix    string   // of each line, see logfile.AppendPrefix
	fd        int      // the file, until it becomes standard output and error
	command   *command // if --log-file is a command
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

// Options configure an Output.
type Options struct {
	To       string          // a file, "| command", or "" for standard error
	Prefix   string          // of each line, see logfile.AppendPrefix
	Env      func() []string // returns the environment of a log command
	Detached bool            // from the terminal
	Wake     func()          // is called after lines were written
}

// Open opens the file or the pipe, without using it yet.
func Open(o Options) (*Output, error) {
	l := &Output{fd: -1, prefix: o.Prefix}
	var err error
	if words, piped := logfile.Command(o.To); piped {
		l.command, err = newCommand(words, o.Env(), o.Detached)
	} else if o.To != "" {
		l.file = o.To
		l.fd, err = logfile.Open(o.To)
	}
	if err != nil {
		return nil, err
	}
	l.writer = background.New(o.Wake)
	return l, nil
}

// Use makes the log the standard output and error of this process. First it writes earlier lines to
// the present standard error.
func (l *Output) Use() error {
	if l.command == nil && l.fd < 0 {
		return nil
	}
	l.Drain(logEndTime)
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
	for _, std := range []int{process.Stdout, process.Stderr} {
		if err := process.Dup2(fd, std); err != nil {
			return fmt.Errorf("redirect standard output to the log: %w", err)
		}
	}
	return nil
}

// Reopen opens the log file again, in case it was renamed.
func (l *Output) Reopen() {
	if l.file == "" {
		return
	}
	l.Drain(background.Patience)
	l.reopening = true
	l.runReopen()
}

func (l *Output) runReopen() {
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
	}, background.Patience)
	switch {
	case !ended:
		l.Print(lines.LogFileSlow(l.file))
	case err != nil:
		l.Print(lines.LogFileNotReopened(l.file, err))
	}
}

// Print writes a line as soon as possible. It never blocks.
func (l *Output) Print(line string) {
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

func (l *Output) appendLine(lines []byte, line string) []byte {
	return append(append(logfile.AppendPrefix(lines, l.prefix), line...), '\n')
}

// flush records what the writer has written, and has it write the rest.
func (l *Output) flush() {
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
func (l *Output) finish(b batch) {
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
		n, err := unix.Write(process.Stderr, piece(b.lines[b.written:]))
		b.written += max(n, 0)
		switch err {
		case nil, unix.EINTR:
		case unix.EAGAIN: // another process has made it non-blocking
			_, _ = unix.Poll([]unix.PollFd{{Fd: process.Stderr, Events: unix.POLLOUT}}, -1)
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

// Drain waits at most limit until all lines that can be written are written.
func (l *Output) Drain(limit time.Duration) {
	end := time.Now().Add(limit)
	for l.flush(); l.writer.Wait(time.Until(end)) && l.writing != nil; {
		l.flush()
	}
}

// OnExit handles the death of a child if it is the log command, and reports whether it is.
func (l *Output) OnExit(pid int) bool { return l.command != nil && l.command.onExit(pid) }

// RunPending starts the log command again if it died, and writes what is unwritten. It returns the
// time until it has to be called again.
func (l *Output) RunPending() time.Duration {
	l.runReopen()
	l.flush()
	wait := deadline.Never
	if l.command != nil {
		var err error
		if wait, err = l.command.keepRunning(); err != nil {
			l.Print(err.Error())
		}
	}
	if len(l.unwritten) > 0 && l.writing == nil {
		wait = min(wait, max(time.Until(l.retryAt), 1))
	}
	return wait
}

// Close writes the remaining lines, if possible, and ends the log command.
func (l *Output) Close() {
	if l.command != nil {
		l.command.prepareEnd()
	}
	l.Drain(logEndTime)
	if l.command != nil {
		l.command.end()
	}
	if l.fd >= 0 {
		unix.Close(l.fd)
		l.fd = -1
	}
	l.writer.Close()
}

// State is the part of the log that crosses an upgrade.
type State struct {
	Pipe      [2]int `json:"pipe"`
	Output    [2]int `json:"output"`
	PID       int    `json:"pid"`
	Unwritten []byte `json:"unwritten"` // whole lines
	Dropped   int    `json:"dropped"`   // lines
}

// Piped reports whether the log is piped to a command.
func (s State) Piped() bool { return s.Pipe != [2]int{} || s.Output != [2]int{} || s.PID != 0 }

// Descriptors returns those that stay open across an upgrade.
func (s State) Descriptors() []int {
	if !s.Piped() {
		return nil
	}
	return append(s.Pipe[:], s.Output[:]...)
}

// Check returns an error if no Output can be in this state.
func (s State) Check() error {
	if s.PID < 0 || len(s.Unwritten) > 0 && s.Unwritten[len(s.Unwritten)-1] != '\n' {
		return fmt.Errorf("invalid log: process %d, %q", s.PID, s.Unwritten)
	}
	return nil
}

// State returns the present state.
func (l *Output) State() State {
	s := State{Unwritten: l.unwritten, Dropped: l.dropped}
	if c := l.command; c != nil {
		s.Pipe, s.Output, s.PID = c.pipe, c.output, c.pid
	}
	return s
}

// Resume returns the log of the previous superdaemon, which is the standard output and error
// already.
func Resume(o Options, s State) *Output {
	l := &Output{fd: -1, prefix: o.Prefix, writer: background.New(o.Wake), unwritten: s.Unwritten, dropped: s.Dropped}
	if words, piped := logfile.Command(o.To); piped {
		l.command = &command{words: words, env: o.Env(), pipe: s.Pipe, output: s.Output, pid: s.PID}
	} else {
		l.file = o.To
	}
	return l
}
