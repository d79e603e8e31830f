package starter

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/process"
)

// logCommand is the command of --log-file="| command", which reads the log from a pipe. It is
// started again if it dies. The superdaemon keeps the read end open as well, so that nothing is
// lost meanwhile.
type logCommand struct {
	command   string
	env       []string
	pipe      [2]int // the read end and the write end
	output    [2]int // standard output and error of the command
	pid       int    // 0 while it does not run
	startedAt time.Time
}

func newLogCommand(command string, env []string, detached bool) (*logCommand, error) {
	c := &logCommand{command: command, env: env}
	var err error
	if c.pipe[0], c.pipe[1], err = process.Pipe(); err != nil {
		return nil, fmt.Errorf("make a pipe for the log command %q: %w", command, err)
	}
	for i, fd := range []int{stdout, stderr} {
		if c.output[i], err = saveOutput(fd, detached); err != nil {
			return nil, fmt.Errorf("start the log command %q: %w", command, err)
		}
	}
	return c, nil
}

// saveOutput returns the descriptor for the output of the log command: a copy of fd, or /dev/null
// if the superdaemon is detached, since the terminal must not wait for the log command.
func saveOutput(fd int, detached bool) (int, error) {
	if detached {
		return unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	}
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
}

func (c *logCommand) start() error {
	c.startedAt = time.Now()
	pid, err := process.Start(process.Spec{
		Args:  []string{"/bin/sh", "-c", c.command},
		Files: []uintptr{uintptr(c.pipe[0]), uintptr(c.output[0]), uintptr(c.output[1])},
		Env:   c.env,
	})
	if err != nil {
		return fmt.Errorf("start the log command %q: %w", c.command, err)
	}
	c.pid = pid
	return nil
}

// keepRunning starts the command again if it died, at most once in retryLog. It returns the time
// until it has to be called again, 0 for none.
func (c *logCommand) keepRunning() (time.Duration, error) {
	if c.pid != 0 {
		return 0, nil
	}
	if wait := retryLog - time.Since(c.startedAt); wait > 0 {
		return wait, nil
	}
	if err := c.start(); err != nil {
		return retryLog, err
	}
	return 0, nil
}

// onExit handles the death of a child if it is the command, and reports whether it is.
func (c *logCommand) onExit(pid int) bool {
	if pid != c.pid || pid == 0 {
		return false
	}
	c.pid = 0
	return true
}

// prepareEnd makes sure that the lines in the pipe are read.
func (c *logCommand) prepareEnd() {
	if c.pid == 0 && c.used() {
		_ = c.start()
	}
}

// used reports whether the command was ever started, by this superdaemon or the previous one.
func (c *logCommand) used() bool { return c.pid != 0 || !c.startedAt.IsZero() }

// end closes the pipe and waits until the command has ended, at most logEndTime: other processes
// may keep the pipe open.
func (c *logCommand) end() {
	if c.used() {
		_ = process.Dup2(c.output[0], stdout)
		_ = process.Dup2(c.output[1], stderr)
	}
	for _, fd := range []int{c.pipe[1], c.pipe[0], c.output[0], c.output[1]} {
		unix.Close(fd)
	}
	for end := time.Now().Add(logEndTime); c.pid != 0 && time.Now().Before(end); {
		pid, _, ok := process.Reap()
		if !ok {
			time.Sleep(5 * time.Millisecond)
		}
		c.onExit(pid)
	}
}
