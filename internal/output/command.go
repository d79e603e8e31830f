package output

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/start-server/start-server/internal/deadline"
	"github.com/start-server/start-server/internal/process"
)

// command is the command of --log-file="| command", which reads the log from a pipe. It is
// started again if it dies. The superdaemon keeps the read end open as well, so that nothing is
// lost meanwhile.
type command struct {
	words     string // for the shell
	env       []string
	pipe      [2]int // the read end and the write end
	output    [2]int // standard output and error of the command
	pid       int    // 0 while it does not run
	startedAt time.Time
}

func newCommand(words string, env []string, detached bool) (*command, error) {
	c := &command{words: words, env: env}
	var err error
	if c.output, err = keepStandard(detached); err != nil { // before the pipe, which could become one of them
		return nil, fmt.Errorf("start the log command %q: %w", words, err)
	}
	if c.pipe[0], c.pipe[1], err = process.Pipe(); err != nil {
		unix.Close(c.output[0])
		unix.Close(c.output[1])
		return nil, fmt.Errorf("make a pipe for the log command %q: %w", words, err)
	}
	return c, nil
}

func (c *command) start() error {
	c.startedAt = time.Now()
	pid, err := process.Start(process.Spec{
		Args:  []string{"/bin/sh", "-c", c.words},
		Files: []uintptr{uintptr(c.pipe[0]), uintptr(c.output[0]), uintptr(c.output[1])},
		Env:   c.env,
	})
	if err != nil {
		return fmt.Errorf("start the log command %q: %w", c.words, err)
	}
	c.pid = pid
	return nil
}

// keepRunning starts the command again if it died, at most once in retryLog. It returns the time
// until it has to be called again.
func (c *command) keepRunning() (time.Duration, error) {
	if c.pid != 0 {
		return deadline.Never, nil
	}
	if wait := retryLog - time.Since(c.startedAt); wait > 0 {
		return wait, nil
	}
	if err := c.start(); err != nil {
		return retryLog, err
	}
	return deadline.Never, nil
}

// onExit handles the death of a child if it is the command, and reports whether it is.
func (c *command) onExit(pid int) bool {
	if pid != c.pid || pid == 0 {
		return false
	}
	c.pid = 0
	return true
}

// prepareEnd makes sure that the lines in the pipe are read.
func (c *command) prepareEnd() {
	if c.pid == 0 && c.used() {
		_ = c.start()
	}
}

// used reports whether the command was ever started, by this superdaemon or the previous one.
func (c *command) used() bool { return c.pid != 0 || !c.startedAt.IsZero() }

// end closes the pipe and waits until the command has ended, at most logEndTime: other processes
// may keep the pipe open.
func (c *command) end() {
	if c.used() {
		_ = process.Dup2(c.output[0], process.Stdout)
		_ = process.Dup2(c.output[1], process.Stderr)
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
